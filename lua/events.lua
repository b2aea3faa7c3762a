-- What happened to one job, and a part of its log, as they stood together at one moment. Changes nothing.
-- ARGV: 1 id, 2 number of the first line wanted, 3 how many chunks of the log at most.
-- Returns {status, events, chunks}, or {} if there is no such job.
local status = redis.call('HGET', key('job', ARGV[1]), 'status')
if not status then
  return {}
end
local chunks = {}
for _, entry in ipairs(redis.call('XRANGE', key('log', ARGV[1]), (ARGV[2] + 1) .. '-0', '+', 'COUNT', ARGV[3]) or {}) do
  chunks[#chunks + 1] = entry[2][2]
end
return { status, redis.call('LRANGE', key('events_of', ARGV[1]), 0, -1), chunks }
