-- Keep a new version of a function, which a job is to make. Older versions make room: never the current one.
-- Repeating the call with the same job (a client's retry) makes no second one.
-- ARGV: 1 name, 2 request (JSON), 3 job, 4 how many functions there may be, 5 how many versions of each.
-- Returns {'ok', number, jobs whose trees are no longer needed ...}, or {'full', how many functions there are}.
local name, request, job, most, kept = unpack(ARGV)
local named, now = key('named', name), now_ms()
local last = tonumber(redis.call('HGET', named, 'last')) or 0
if last > 0 and redis.call('HGET', version_key(name, last), 'job') == job then
  return { 'ok', last }
end
local there = redis.call('ZCARD', key('functions'))
if last == 0 and there >= tonumber(most) then
  return { 'full', there }
end
local number = redis.call('HINCRBY', named, 'last', 1)
redis.call('HSETNX', named, 'created_ms', now)
redis.call('HSET', named, 'updated_ms', now)
redis.call('ZADD', key('functions'), 'NX', now, name)
redis.call('ZADD', key('versions', name), number, number)
redis.call('HSET', version_key(name, number), 'state', 'making', 'created_ms', now, 'job', job, 'request', request,
  'bytes', 0)
local answer = { 'ok', number }
local too_many = redis.call('ZCARD', key('versions', name)) - kept
for _, old in ipairs(redis.call('ZRANGE', key('versions', name), 0, -2)) do
  if too_many > 0 and old ~= redis.call('HGET', named, 'current') then
    table.insert(answer, drop_version(name, old))
    too_many = too_many - 1
  end
end
return answer
