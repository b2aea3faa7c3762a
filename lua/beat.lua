-- Renew a run's lease.
-- ARGV: 1 id, 2 fence, 3 lease in ms.
-- Returns 1 if somebody asked to cancel the job, 0 if not, 'lost' if this run no longer owns it.
even_when_full()
local job = load(ARGV[1])
if not holds(job, ARGV[2]) then
  return 'lost'
end
redis.call('ZADD', key('active', job.queue), now_ms() + ARGV[3], job.id)
return job.cancel_reason and 1 or 0
