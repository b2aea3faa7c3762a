-- Stop trying a delivery. A result is kept with its note, the newest thousand; progress is forgotten.
-- Ignored if it was taken over meanwhile.
-- ARGV: 1 id, 2 attempt, 3 note (why).
-- Returns 'ok' or 'lost'.
even_when_full()
local id, MOST = ARGV[1], 1000
local attempt, event, job_id = unpack(redis.call('HMGET', key('delivery', id), 'attempt', 'event', 'job_id'))
if attempt ~= ARGV[2] then
  return 'lost'
end
count('deliveries_given_up')
if event == 'progress' or redis.call('EXISTS', key('job', job_id)) == 0 then
  drop_delivery(id)
  return 'ok'
end
redis.call('ZREM', key('outbox'), id)
redis.call('ZADD', key('given_up'), now_ms(), id)
redis.call('HSET', key('delivery', id), 'note', ARGV[3])
for _, oldest in ipairs(redis.call('ZRANGE', key('given_up'), 0, -MOST - 1)) do
  drop_delivery(oldest)
end
return 'ok'
