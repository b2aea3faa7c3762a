-- Say how far a run is. The percentage never falls within an attempt.
-- ARGV: 1 id, 2 fence, 3 percent (0..100), 4 phase.
-- Returns 'ok', or 'lost' if this run no longer owns the job.
even_when_full()
local job = load(ARGV[1])
if not holds(job, ARGV[2]) then
  return 'lost'
end

-- One waiting delivery per endpoint: due at once for a new phase, else two seconds after the last one.
local function announce(at_once, now)
  if job.progress_waits == '1' and not at_once then
    return
  end
  local due = at_once and now or math.max(now, (tonumber(job.progress_due_ms) or 0) + PROGRESS_EVERY_MS)
  drop_waiting_progress(job)
  local seq = tell(job, 'job.progress', due, now)
  if seq then
    redis.call('HSET', key('job', job.id), 'progress_seq', seq, 'progress_waits', '1', 'progress_due_ms', due)
  end
end

local percent = math.max(tonumber(job.progress or 0), tonumber(ARGV[3]))
local new_phase = ARGV[4] ~= (job.phase or '')
if new_phase or percent > tonumber(job.progress or 0) then
  redis.call('HSET', key('job', job.id), 'progress', percent, 'phase', ARGV[4])
  job.progress, job.phase = percent, ARGV[4]
  happen(job, 'progress', now_ms())
  announce(new_phase, now_ms())
end
return 'ok'
