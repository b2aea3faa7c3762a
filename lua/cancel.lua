-- End a job that has not started; ask the run of an active one to stop; leave a finished one as it is.
-- ARGV: 1 id, 2 reason, 3 message.
-- Returns the record as field, value, ...; empty if there is no such job.
even_when_full()
local job = load(ARGV[1])
if job then
  cancel(job, ARGV[2], ARGV[3], now_ms())
end
return job and redis.call('HGETALL', key('job', job.id)) or {}
