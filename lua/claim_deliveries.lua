-- Take deliveries that are due, each under a lease; one whose lease ends is due again.
-- ARGV: 1 owner, 2 how many at most, 3 lease in ms.
-- Returns {{id, job_id, event, attempt, created_ms, seq}, ...}; attempt counts from 1.
even_when_full()
local now = now_ms()

-- Progress is not worth sending once the job has had another event: newer progress, or its end.
local function is_old_news(job_id, event, seq)
  return event == 'progress' and redis.call('HGET', key('job', job_id), 'seq') ~= seq
end

-- job_id, event, created_ms and seq of a delivery; nothing if these keys are not as the moves wrote them.
local function usable(id)
  local fields = redis.pcall('HMGET', key('delivery', id), 'job_id', 'event', 'created_ms', 'seq')
  if fields.err or not (fields[1] and fields[2] and fields[3] and fields[4]) then
    return
  end
  local record = redis.call('TYPE', key('job', fields[1])).ok -- 'none' is a removed job: the sender says so
  if record == 'hash' or record == 'none' then
    return unpack(fields)
  end
end

local taken = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('outbox'), '-inf', now, 'LIMIT', 0, ARGV[2])) do
  local job_id, event, created_ms, seq = usable(id)
  if not job_id or is_old_news(job_id, event, seq) then
    drop_delivery(id)
  else
    redis.call('ZADD', key('outbox'), now + ARGV[3], id)
    redis.call('HSET', key('delivery', id), 'owner', ARGV[1])
    if event == 'progress' then -- from here on new progress is news again
      redis.call('HDEL', key('job', job_id), 'progress_delivery')
    end
    local attempt = redis.call('HINCRBY', key('delivery', id), 'attempt', 1)
    taken[#taken + 1] = { id, job_id, event, attempt, created_ms, seq }
  end
end
return taken
