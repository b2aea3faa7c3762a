-- Take the job whose turn it is: waiting -> active, under a lease, with a new fence.
-- First lets happen what is due (due.lua). Larger priorities first; within one, chats take turns; a priority whose
-- oldest job has waited longer than AGEING_MS gets every fourth claim.
-- ARGV: 1 owner, 2 lease in ms.
-- Returns {1, record as field, value, ...} or {0, ms until the next moment at which something can be due, <= 1000}.
even_when_full()
local now = now_ms()
local LONGEST_WAIT_MS = 1000
local STAND_BACK_MS = 1000

-- The oldest job of a flow leaves the line.
local function serve(queue, flow)
  local id = redis.call('ZPOPMIN', key('flow', queue .. ':' .. flow))[1]
  stand_at_the_end(queue, flow)
  local since = id and redis.call('ZSCORE', key('waiting', queue), id)
  if id then
    redis.call('ZREM', key('waiting', queue), id)
  end
  return id and load(id), since or now
end

-- Whether this release can run a job. Broken words are for the caller to find.
local function can_run(job)
  local known = TYPES[job.type] or not string.match(job.type, '^[a-z][a-z_-]+$')
  for word in string.gmatch(job.asks or '', '%S+') do
    known = known and ASKS[word]
  end
  return known
end

-- A job that only a newer release can run waits beside the line, where the next claim of one finds it.
local function leave(job, since)
  if can_run(job) then
    return false
  end
  redis.call('ZADD', key('waiting', job.queue), since, job.id)
  redis.call('ZADD', key('left', job.queue), since, job.id)
  return true
end

-- What older releases left and this one can run comes back into the line.
local function take_up(queue)
  for _, id in ipairs(redis.call('ZRANGE', key('left', queue), 0, BATCH - 1)) do
    local job = load(id)
    if not job or job.status ~= 'pending' then
      redis.call('ZREM', key('left', queue), id)
    elseif can_run(job) then
      local since = redis.call('ZSCORE', key('left', queue), id)
      redis.call('ZREM', key('left', queue), id)
      stand_in_line(job, since)
    end
  end
end

local function is_late(job)
  local by = tonumber(job.expires_at_ms) or 0
  return by > 0 and by <= now and not job.started_ms
end

-- A job that takes its worker down takes the jobs beside it down too, and all come back together. On their last chance
-- they run one at a time, so that only the one which does it fails.
local function stands_back(job)
  if not is_last_chance(job) or redis.call('SCARD', key('last_chance')) == 0 then
    return false
  end
  wait(job, now + STAND_BACK_MS, now)
  return true
end

local function start(job)
  local record = key('job', job.id)
  redis.call('HINCRBY', record, 'fence', 1)
  job.attempt = redis.call('HINCRBY', record, 'attempt', 1)
  if redis.call('HSETNX', record, 'started_ms', now) == 1 then
    observe('job_wait_seconds|' .. job.type, now - math.max(job.created_ms or now, job.run_at_ms or 0))
  end
  redis.call('HSET', record, 'owner', ARGV[1], 'attempt_started_ms', now, 'log_from', job.log_lines or 0, 'progress', 0,
    'phase', '')
  redis.call('ZADD', key('active', job.queue), now + ARGV[2], job.id)
  redis.call('SADD', key('running', job.chat), job.id)
  redis.call('ZREM', key('expiring'), job.id)
  if is_last_chance(job) then
    redis.call('SADD', key('last_chance'), job.id)
  end
  job.progress, job.phase = 0, ''
  happen(job, 'state', now)
  tell(job, 'job.started', now, now)
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

bring_about(now)
for _, queue in ipairs(QUEUES) do
  take_up(queue)
end
local queues = open_queues()
for _ = 1, BATCH do
  local queue, flow, its_place = head(queues)
  if not queue then
    return { 0, ms_until_due() }
  end
  if redis.call('HINCRBY', key('counters'), 'turns', 1) % AGED_TURN == 0 then
    local aged_queue, aged_flow = aged_head(queues, its_place, now)
    queue, flow = aged_queue or queue, aged_flow or flow
  end
  if not hold(queue, flow) then
    local job, since = serve(queue, flow)
    local gone = not job or (is_late(job) and expire(job, now)) or leave(job, since) or stands_back(job)
    if not gone and move(job, 'claim') then
      if head(queues) then
        ring()
      end
      return { 1, start(job) }
    end
  end
end
return { 0, 0 } -- a hundred entries without a job to start: come back for the next ones
