-- Say how far a run is. The percentage never falls within an attempt.
-- ARGV: 1 id, 2 fence, 3 percent (0..100), 4 phase.
-- Returns 'ok', or 'lost' if this run no longer owns the job.
even_when_full()
local job = load(ARGV[1])
if not holds(job, ARGV[2]) then
  return 'lost'
end

-- One pending delivery per job: due at once for a new phase, else two seconds after the last one.
local function announce(at_once, now)
  local pending = job.progress_delivery
  if pending and not at_once then
    return
  end
  local due = at_once and now or math.max(now, (tonumber(job.progress_due_ms) or 0) + PROGRESS_EVERY_MS)
  if pending then
    redis.call('ZADD', key('outbox'), 'XX', 'LT', due, pending)
    ring_outbox()
  else
    add_delivery(job, 'progress', due, now)
  end
  redis.call('HSET', key('job', job.id), 'progress_due_ms', due)
end

local percent = math.max(tonumber(job.progress or 0), tonumber(ARGV[3]))
local new_phase = ARGV[4] ~= (job.phase or '')
if new_phase or percent > tonumber(job.progress or 0) then
  redis.call('HSET', key('job', job.id), 'progress', percent, 'phase', ARGV[4])
  if NOTIFY and NOTIFY_PROGRESS then
    announce(new_phase, now_ms())
  end
end
return 'ok'
