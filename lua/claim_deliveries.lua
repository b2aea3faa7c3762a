-- Take deliveries of one endpoint that are due, each under a lease; one whose lease ends is due again.
-- ARGV: 1 endpoint, 2 how many at most, 3 lease in ms, 4 how many may be with senders at once, over all processes.
-- Returns {ms until something can be due, <= 1000, {{id, {field, value, ...}}, ...}}; `attempt` and `fence` count from 1.
even_when_full()
local lane, limit, lease_ms, at_once = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local now = now_ms()
local LONGEST_WAIT_MS = 1000

local function take_back()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('posting', lane), '-inf', now, 'LIMIT', 0, BATCH)) do
    redis.call('ZREM', key('posting', lane), id)
    redis.call('ZADD', key('outbox', lane), now, id)
  end
end

-- Event and job of a delivery; nothing if these keys are not as the moves wrote them.
local function usable(id)
  local fields = redis.pcall('HMGET', key('delivery', id), 'event', 'job_id', 'seq', 'number')
  if fields.err or not (fields[1] and fields[2] and fields[3] and fields[4]) then
    return
  end
  local record = redis.call('TYPE', key('job', fields[2])).ok -- 'none' is a removed job: the sender says so
  if record == 'hash' or record == 'none' then
    return fields[1], fields[2], fields[3]
  end
end

-- Progress tells how far the job is now, and from here on new progress is news again.
local function refresh(id, job_id)
  local job = load(job_id)
  if job then
    redis.call('HSET', key('delivery', id), unpack(news(job, now)))
    redis.call('HDEL', key('job', job_id), 'progress_waits')
  end
end

local function take(id, event, job_id)
  redis.call('ZREM', key('outbox', lane), id)
  redis.call('ZADD', key('posting', lane), now + lease_ms, id)
  redis.call('HINCRBY', key('delivery', id), 'attempt', 1)
  redis.call('HINCRBY', key('delivery', id), 'fence', 1)
  if event == 'job.progress' then
    refresh(id, job_id)
  end
  return { id, redis.call('HGETALL', key('delivery', id)) }
end

-- An event of a newer release is left to its senders.
local function is_strange(event)
  return not KNOWN_EVENTS[event] and string.match(event, '^[a-z]+%.[a-z_.]+$')
end

local function take_due(room)
  local taken, left = {}, false
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('outbox', lane), '-inf', now, 'LIMIT', 0, 10 * BATCH)) do
    if #taken >= room then
      break
    end
    local event, job_id, seq = usable(id)
    local is_old = event == 'job.progress' and redis.call('HGET', key('job', job_id), 'seq') ~= seq
    if not event or is_old or not (KNOWN_EVENTS[event] or is_strange(event)) then
      drop_delivery(id)
      redis.call('ZREM', key('outbox', lane), id) -- where an id does not name this endpoint
    elseif is_strange(event) then
      left = true
    else
      taken[#taken + 1] = take(id, event, job_id)
    end
  end
  return taken, left
end

local function first(name)
  return tonumber(redis.call('ZRANGE', key(name, lane), 0, 0, 'WITHSCORES')[2])
end

take_back()
local room = at_once - redis.call('ZCARD', key('posting', lane))
local taken, left = {}, false
if not is_disabled(lane) then
  taken, left = take_due(math.min(room, limit))
end
local soonest = math.min(first('posting') or math.huge, now + LONGEST_WAIT_MS)
if #taken < room and not left and not is_disabled(lane) then
  soonest = math.min(soonest, first('outbox') or soonest)
  if soonest <= now then
    ring_outbox(lane) -- for whoever waits: there is more
  end
end
return { math.max(0, soonest - now), taken }
