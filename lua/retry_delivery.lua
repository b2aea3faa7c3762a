-- Try a delivery again later. Ignored if it was taken over meanwhile: the new owner decides.
-- ARGV: 1 id, 2 attempt, 3 delay in ms, 4 note (what went wrong).
-- Returns 'ok' or 'lost'.
even_when_full()
local id = ARGV[1]
local attempt, event, job_id, seq =
  unpack(redis.call('HMGET', key('delivery', id), 'attempt', 'event', 'job_id', 'seq'))
if attempt ~= ARGV[2] then
  return 'lost'
elseif is_old_news(job_id, event, seq) then
  drop_delivery(id)
  return 'ok'
end
redis.call('ZADD', key('outbox'), 'XX', now_ms() + ARGV[3], id)
redis.call('HSET', key('delivery', id), 'note', ARGV[4])
if event == 'progress' then
  redis.call('HSET', key('job', job_id), 'progress_delivery', id)
end
ring_outbox()
return 'ok'
