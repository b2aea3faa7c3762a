-- Make another version of a function the one that is called.
-- ARGV: 1 name, 2 number.
-- Returns 'ok', 'missing' if there is no such version, or 'making' if it cannot be called yet.
local name, number = unpack(ARGV)
local state = redis.call('HGET', version_key(name, number), 'state')
if state ~= 'ready' then
  return state or 'missing'
end
redis.call('HSET', key('named', name), 'current', number, 'updated_ms', now_ms())
return 'ok'
