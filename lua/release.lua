-- Hand a job back that could not be finished here: active -> waiting at its old place, without using an attempt.
-- A job somebody asked to cancel ends instead. Repeating the call (a client's retry) changes nothing.
-- ARGV: 1 id, 2 fence.
-- Returns 'ok', or 'lost' if this run no longer owns the job.
even_when_full()
local job = load(ARGV[1])
local outcome = ARGV[2] .. '|released|'
if job and job.outcome == outcome then
  return 'ok'
end
if not holds(job, ARGV[2]) then
  return 'lost'
end
local now = now_ms()
redis.call('HSET', key('job', job.id), 'outcome', outcome)
if job.cancel_reason then
  finish(job, 'give_up', as_cancelled(job), now)
elseif move(job, 'release') then
  job.attempt = redis.call('HINCRBY', key('job', job.id), 'attempt', -1)
  leave_run(job)
  stand_in_line(job, now)
  happen(job, 'state', now)
  count('released')
end
return 'ok'
