-- The job of a version has packed it: from now on it can be called, and it is the current one unless a newer one was.
-- ARGV: 1 name, 2 number, 3 job, 4 package (JSON), 5 its bytes, 6 how many bytes all packages may have.
-- Returns 'ok', 'gone' if the version was removed meanwhile, or 'full'.
local name, number, job, package, bytes, most = unpack(ARGV)
local version, named = version_key(name, number), key('named', name)
if redis.call('HGET', version, 'job') ~= job then
  return 'gone'
end
local before = tonumber(redis.call('HGET', version, 'bytes'))
local all = tonumber(redis.call('GET', key('functions_bytes'))) or 0
if all - before + bytes > tonumber(most) then
  return 'full'
end
redis.call('HSET', version, 'state', 'ready', 'package', package, 'bytes', bytes)
redis.call('INCRBY', key('functions_bytes'), bytes - before)
if tonumber(number) > (tonumber(redis.call('HGET', named, 'top')) or 0) then
  redis.call('HSET', named, 'current', number, 'top', number, 'updated_ms', now_ms())
end
return 'ok'
