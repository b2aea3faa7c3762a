-- Take the job whose turn it is: waiting -> active, under a lease, with a new fence.
-- First lets delayed jobs into the line and takes back jobs whose lease is over, so no other process need be alive.
-- ARGV: 1 owner, 2 lease in ms.
-- Returns {1, record as field, value, ...} or {0, ms until the next moment at which something can be due, <= 1000}.
even_when_full()
local now = now_ms()
local LONGEST_WAIT_MS = 1000

-- Ids of a ZSET of moments whose moment has come, and how long until the next one.
local function due(name, queue)
  return redis.call('ZRANGEBYSCORE', key(name, queue), '-inf', now, 'LIMIT', 0, BATCH)
end

local function promote(queue)
  for _, id in ipairs(due('delayed', queue)) do
    local since = redis.call('ZSCORE', key('delayed', queue), id)
    redis.call('ZREM', key('delayed', queue), id)
    local job = load(id)
    if job and job.status == 'pending' then
      stand_in_line(job, since)
    end
  end
end

local LOST = { conclusion = 'error', reason = 'worker_lost', message = 'The worker stopped answering during this run.' }

-- A lease that ends means a worker that died or hangs. A job that does this to MAX_STALLS + 1 workers is the cause.
local function take_back(job)
  local stalls = redis.call('HINCRBY', key('job', job.id), 'stalls', 1)
  count('takeovers')
  if job.cancel_reason then
    record_attempt(job, LOST, 'final', 'the job was cancelled', 0, now)
    finish(job, 'give_up', as_cancelled(job), now)
  elseif stalls > MAX_STALLS then
    record_attempt(job, LOST, 'final', 'the job lost its worker ' .. stalls .. ' times', 0, now)
    finish(job, 'give_up', { conclusion = 'error', reason = 'worker_lost',
      message = 'The job lost its worker ' .. stalls .. ' times; the last one was ' .. (job.owner or '?') .. '.' }, now)
  elseif move(job, 'takeover') then
    record_attempt(job, LOST, 'retry', 'a lost worker is not the job\'s doing', 0, now)
    leave_run(job)
    stand_in_line(job, now)
  end
end

local function take_back_all(queue)
  for _, id in ipairs(due('active', queue)) do
    local job = load(id)
    if job and job.status == 'active' then
      take_back(job)
    else
      redis.call('ZREM', key('active', queue), id)
    end
  end
end

-- The queue and flow at the head of all lines, or nil.
local function head()
  local best_queue, best_flow, best_place
  for _, queue in ipairs(QUEUES) do
    local first = redis.call('ZRANGE', key('ready', queue), 0, 0, 'WITHSCORES')
    local its_place = tonumber(first[2])
    if its_place and (not best_place or its_place < best_place) then
      best_queue, best_flow, best_place = queue, first[1], its_place
    end
  end
  return best_queue, best_flow
end

-- The flow's oldest job. What is left of the flow goes behind all others of its priority: chats take turns.
local function serve(queue, flow)
  local jobs = key('flow', queue .. ':' .. flow)
  local id = redis.call('ZPOPMIN', jobs)[1]
  local priority = tonumber(string.match(flow, '^(-?%d+):'))
  if priority and redis.call('EXISTS', jobs) == 1 then
    redis.call('ZADD', key('ready', queue), place(priority, redis.call('INCR', key('turn'))), flow)
  else
    redis.call('ZREM', key('ready', queue), flow)
  end
  if id then
    redis.call('ZREM', key('waiting', queue), id)
  end
  return id and load(id)
end

local function start(job)
  local record = key('job', job.id)
  redis.call('HINCRBY', record, 'fence', 1)
  redis.call('HINCRBY', record, 'attempt', 1)
  redis.call('HSETNX', record, 'started_ms', now)
  redis.call('HSET', record, 'owner', ARGV[1], 'attempt_started_ms', now, 'log_from', job.log_lines or 0, 'progress', 0,
    'phase', '')
  redis.call('ZADD', key('active', job.queue), now + ARGV[2], job.id)
  redis.call('SADD', key('running', job.chat_id), job.id)
  return redis.call('HGETALL', record)
end

local function ms_until_due()
  local soonest = now + LONGEST_WAIT_MS
  for _, queue in ipairs(QUEUES) do
    for _, name in ipairs({ 'delayed', 'active' }) do
      local first = redis.call('ZRANGE', key(name, queue), 0, 0, 'WITHSCORES')
      soonest = math.min(soonest, tonumber(first[2]) or soonest)
    end
  end
  return math.max(0, soonest - now)
end

for _, queue in ipairs(QUEUES) do
  promote(queue)
  take_back_all(queue)
end
for _ = 1, BATCH do
  local queue, flow = head()
  if not queue then
    return { 0, ms_until_due() }
  end
  local job = serve(queue, flow)
  if job and move(job, 'claim') then
    if head() then
      ring()
    end
    return { 1, start(job) }
  end
end
return { 0, 0 } -- a hundred entries without a job behind them: come back for the next ones
