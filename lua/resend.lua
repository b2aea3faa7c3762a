-- Send a delivery again: at once, and with all its tries; one that is pending is just due at once.
-- ARGV: 1 id.
-- Returns 'ok' or 'missing'.
even_when_full()
local id = ARGV[1]
local _, lane = parts_of(id)
local state, number = unpack(redis.call('HMGET', key('delivery', id), 'state', 'number'))
if not number then
  return 'missing'
end
if state == 'pending' then
  redis.call('ZADD', key('outbox', lane), 'XX', 'LT', now_ms(), id)
else
  redis.call('ZREM', key(state, lane), id)
  redis.call('ZADD', key('pending', lane), number, id)
  redis.call('ZADD', key('outbox', lane), now_ms(), id)
  redis.call('HSET', key('delivery', id), 'state', 'pending', 'attempt', 0)
end
ring_outbox(lane)
return 'ok'
