-- Try a delivery again later. Ignored if it was taken over meanwhile: the new owner decides.
-- ARGV: 1 id, 2 attempt, 3 delay in ms, 4 note (what went wrong).
-- Returns 'ok' or 'lost'.
even_when_full()
if redis.call('HGET', key('delivery', ARGV[1]), 'attempt') ~= ARGV[2] then
  return 'lost'
end
redis.call('ZADD', key('outbox'), 'XX', now_ms() + ARGV[3], ARGV[1])
redis.call('HSET', key('delivery', ARGV[1]), 'note', ARGV[4])
ring_outbox()
return 'ok'
