-- Forget a function with all its versions; or one version that never was the current one, and the function if it has
-- no other.
-- ARGV: 1 name, 2 number or ''.
-- Returns {how many versions went, jobs whose trees are no longer needed ...}.
even_when_full()
local name, number = unpack(ARGV)
local numbers = number == '' and redis.call('ZRANGE', key('versions', name), 0, -1) or { number }
local answer = { #numbers }
for _, each in ipairs(numbers) do
  table.insert(answer, drop_version(name, each))
end
if redis.call('EXISTS', key('versions', name)) == 0 then
  redis.call('DEL', key('named', name))
  redis.call('ZREM', key('functions'), name)
end
return answer
