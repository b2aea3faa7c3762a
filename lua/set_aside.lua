-- Take a record out of the way that cannot be used. What can be found of the job is forgotten.
-- ARGV: 1 id.
-- Returns 'ok'.
even_when_full()
local job = load(ARGV[1])
if job then
  forget(job)
end
for _, queue in ipairs(QUEUES) do
  for _, name in ipairs({ 'waiting', 'delayed', 'active' }) do
    redis.call('ZREM', key(name, queue), ARGV[1])
  end
end
redis.call('DEL', key('job', ARGV[1]), key('request', ARGV[1]), key('log', ARGV[1]),
  key('events_of', ARGV[1]))
return 'ok'
