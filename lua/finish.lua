-- Record how a run ended: active -> completed or failed, with its webhook; or -> pending, to be tried again.
-- A job somebody asked to cancel is not tried again. Repeating the call (a client's retry) changes nothing.
-- ARGV: 1 id, 2 fence, 3 conclusion, 4 reason, 5 message, 6 result (JSON), 7 artifacts (JSON),
--       8 'retry' or 'final', 9 why that was decided, 10 delay of the retry in ms, 11 field that counts the failure.
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
redis.call('HSET', record, 'outcome', outcome)

local function try_again()
  move(job, 'retry')
  record_attempt(job, how, 'retry', ARGV[9], tonumber(ARGV[10]), now)
  redis.call('HINCRBY', record, ARGV[11], 1)
  leave_run(job)
  wait(job, now + ARGV[10], now)
  count('retries')
end

local function end_here()
  local why = ARGV[9]
  if ARGV[8] == 'retry' then
    why = 'the job was cancelled'
  end
  record_attempt(job, how, 'final', why, 0, now)
  if ARGV[8] == 'retry' then
    how = as_cancelled(job)
  end
  redis.call('HSET', record, 'result', ARGV[6], 'artifacts', ARGV[7])
  if how.conclusion == 'success' then
    redis.call('HSET', record, 'progress', 100)
  end
  finish(job, how.conclusion == 'success' and 'complete' or 'fail', how, now)
end

if ARGV[8] == 'retry' and not job.cancel_reason then
  try_again()
else
  end_here()
end
return 'ok'
