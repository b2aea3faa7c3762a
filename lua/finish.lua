-- Record how a run ended: active -> completed or failed, with its webhook; or -> pending, to be tried again.
-- A job somebody asked to cancel is not tried again. Repeating the call (a client's retry) changes nothing.
-- ARGV: 1 id, 2 fence, 3 conclusion, 4 reason, 5 message, 6 result (JSON), 7 artifacts (JSON), 8 bytes of artifacts,
--       9 'retry' or 'final', 10 why that was decided, 11 delay of the retry in ms, 12 field that counts the failure,
--       13 CPU time of the run in ms.
-- Returns 'ok', or 'lost' if this run no longer owns the job.
even_when_full()
local job = load(ARGV[1])
local outcome = ARGV[2] .. '|' .. ARGV[3] .. '|' .. ARGV[4]
if job and job.outcome == outcome then
  return 'ok'
end
if not holds(job, ARGV[2]) then
  return 'lost'
end
local now, record = now_ms(), key('job', job.id)
local how = { conclusion = ARGV[3], reason = ARGV[4], message = ARGV[5] }
local why = ARGV[10]
redis.call('HSET', record, 'outcome', outcome)
observe('job_run_seconds|' .. job.type, now - (job.attempt_started_ms or now))
charge_cpu(job.tenant, tonumber(ARGV[13]), now)

local function try_again()
  move(job, 'retry')
  record_attempt(job, how, 'retry', why, tonumber(ARGV[11]), now)
  redis.call('HINCRBY', record, ARGV[12], 1)
  leave_run(job)
  happen(job, 'state', now, how)
  wait(job, now + ARGV[11], now)
  tell(job, 'job.retrying', now, now, how)
  count('retries')
  meter('job_retries|' .. how.reason)
  tally(job, 'retries', 1)
end

local function end_here()
  redis.call('HSET', record, 'result', ARGV[6], 'artifacts', ARGV[7])
  job.bytes = (tonumber(job.bytes) or 0) + ARGV[8]
  if how.conclusion == 'success' then
    redis.call('HSET', record, 'progress', 100)
    job.progress = 100
  end
  if how.conclusion == 'success' or how.conclusion == 'failure' then
    learn_pace(job, now - (job.attempt_started_ms or now))
  end
  finish(job, how.conclusion == 'success' and 'complete' or 'fail', how, now)
end

if ARGV[9] == 'retry' and not job.cancel_reason then
  try_again()
else
  if ARGV[9] == 'retry' then
    why = 'the job was cancelled'
  end
  record_attempt(job, how, 'final', why, 0, now)
  if ARGV[9] == 'retry' then
    how = as_cancelled(job)
  end
  end_here()
end
return 'ok'
