-- End a job that has not started; ask the run of an active one to stop; leave a finished one as it is.
-- The first request's reason counts.
-- ARGV: 1 id, 2 reason, 3 message.
-- Returns the record as field, value, ...; empty if there is no such job.
even_when_full()
local job = load(ARGV[1])
if not job then
  return {}
end
local ended = finish(job, 'cancel', { conclusion = 'cancelled', reason = ARGV[2], message = ARGV[3] }, now_ms())
if not ended and job.status == 'active' and not job.cancel_reason then
  redis.call('HSET', key('job', job.id), 'cancel_reason', ARGV[2], 'cancel_message', ARGV[3])
end
return redis.call('HGETALL', key('job', job.id))
