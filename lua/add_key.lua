-- Keep a new API key.
-- ARGV: 1 id, 2 ms after which it opens nothing, or 0, then field, value, ... of the key.
-- Returns 'ok'.
local now = now_ms()
local expires_ms = tonumber(ARGV[2]) > 0 and now + ARGV[2] or 0
redis.call('HSET', key('api_key', ARGV[1]), 'id', ARGV[1], 'created_ms', now, 'expires_ms', expires_ms, unpack(ARGV, 3))
redis.call('ZADD', key('api_keys'), now, ARGV[1])
return 'ok'
