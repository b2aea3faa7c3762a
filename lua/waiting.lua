-- Why a pending job waits, and behind how many. Changes nothing.
-- ARGV: 1 id.
-- Returns {} if the job is not pending, else {jobs that start before it, what blocks it, detail, slots of all living
-- workers, slots that are free, ms a run takes on average (0 if unknown), moment before which it does not start or 0,
-- now}.
local MOST_FLOWS = 500 -- looked at per queue; with more, the number is a lower bound
local now = now_ms()
local job = load(ARGV[1])
if not job or job.status ~= 'pending' then
  return {}
end
local flow, priority = flow_of(job), tonumber(job.priority)

-- Flows of one priority take turns: before a job that is its flow's nth, each other flow gives n jobs, and the one
-- that stands before gives one more.
local function ahead_of(nth, its_place)
  local ahead = nth
  for _, queue in ipairs(open_queues()) do
    local flows = redis.call('ZRANGE', key('ready', queue), 0, MOST_FLOWS - 1, 'WITHSCORES')
    for i = 1, #flows, 2 do
      local other = tonumber(string.match(flows[i], '^(-?%d+):'))
      local jobs = redis.call('ZCARD', key('flow', queue .. ':' .. flows[i]))
      if other and other > priority then
        ahead = ahead + jobs
      elseif other == priority and not (queue == job.queue and flows[i] == flow) then
        ahead = ahead + math.min(jobs, nth + (tonumber(flows[i + 1]) < its_place and 1 or 0))
      end
    end
  end
  return ahead
end

local function living_slots()
  local slots = 0
  for _, worker in ipairs(redis.call('ZRANGEBYSCORE', key('workers'), now, '+inf')) do
    slots = slots + (redis.call('HGET', key('slots'), worker) or 0)
  end
  return slots
end

local function running()
  local jobs = 0
  for _, queue in ipairs(QUEUES) do
    jobs = jobs + redis.call('ZCARD', key('active', queue))
  end
  return jobs
end

local due_ms = tonumber(redis.call('ZSCORE', key('delayed', job.queue), job.id) or 0)
local nth = redis.call('ZRANK', key('flow', job.queue .. ':' .. flow), job.id) or 0
local its_place = tonumber(redis.call('ZSCORE', key('ready', job.queue), flow) or place(priority, PLACES_PER_PRIORITY))
local ahead = ahead_of(nth, its_place)
local slots = living_slots()
local free = math.max(0, slots - running())
local chat_runs = job.chat_id ~= '' and redis.call('SCARD', key('running', job.chat)) or 0

local function blocked_by()
  local own, all = unpack(redis.call('HMGET', key('paused'), job.queue, '*'))
  if redis.call('ZSCORE', key('left', job.queue), job.id) then
    return 'no_worker', 'Only a newer release can run it.'
  elseif due_ms > now then
    return 'delay', ''
  elseif own or all then
    return 'paused', string.match(own or all, '^%d+|(.*)$')
  elseif slots == 0 then
    return 'no_worker', ''
  elseif CHAT_LIMIT > 0 and chat_runs >= CHAT_LIMIT then
    return 'chat_limit', tostring(CHAT_LIMIT)
  end
  return ahead >= free and 'slots' or 'none', ''
end

local what, detail = blocked_by()
return { ahead, what, detail, slots, free, tonumber(redis.call('HGET', key('pace'), '*') or 0), due_ms, now }
