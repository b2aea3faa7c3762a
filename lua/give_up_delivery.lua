-- Stop trying a delivery; it is kept with its note. Ignored if it was taken over meanwhile.
-- ARGV: 1 id, 2 attempt, 3 note (why).
-- Returns 'ok' or 'lost'.
even_when_full()
if redis.call('HGET', key('delivery', ARGV[1]), 'attempt') ~= ARGV[2] then
  return 'lost'
end
redis.call('ZREM', key('outbox'), ARGV[1])
redis.call('ZADD', key('given_up'), now_ms(), ARGV[1])
redis.call('HSET', key('delivery', ARGV[1]), 'note', ARGV[3])
count('deliveries_given_up')
return 'ok'
