-- Try a delivery again that was given up: at once, and with all its tries.
-- ARGV: 1 id.
-- Returns 'ok' or 'missing'.
even_when_full()
if redis.call('ZREM', key('given_up'), ARGV[1]) == 0 then
  return 'missing'
end
redis.call('HSET', key('delivery', ARGV[1]), 'attempt', 0)
redis.call('ZADD', key('outbox'), now_ms(), ARGV[1])
ring_outbox()
return 'ok'
