-- What time brings about: delayed jobs come into the line, leases run out, jobs expire. Part of claim.lua, so that no
-- other process need be alive, and of tick.lua, so that it happens without a worker too. At most a hundred of a kind.

local LOST = { conclusion = 'error', reason = 'worker_lost', message = 'The worker stopped answering during this run.' }

local function due(index, now)
  return redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, BATCH)
end

local function promote(queue, now)
  local index = key('delayed', queue)
  for _, id in ipairs(due(index, now)) do
    local since = redis.call('ZSCORE', index, id)
    local job = load(id)
    if job then
      leave_delayed(job)
    end
    redis.call('ZREM', index, id) -- whatever its record says
    if job and job.status == 'pending' then
      stand_in_line(job, since)
    end
  end
end

-- A lease that ends means a worker that died or hangs. A job that does this to MAX_STALLS + 1 workers is the cause.
local function take_back(job, now)
  local stalls = redis.call('HINCRBY', key('job', job.id), 'stalls', 1)
  count('takeovers')
  if job.cancel_reason then
    record_attempt(job, LOST, 'final', 'the job was cancelled', 0, now)
    finish(job, 'give_up', as_cancelled(job), now)
  elseif stalls > MAX_STALLS then
    record_attempt(job, LOST, 'final', 'the job lost its worker ' .. stalls .. ' times', 0, now)
    finish(job, 'give_up', { conclusion = 'error', reason = 'worker_lost',
      message = 'The job lost its worker ' .. stalls .. ' times; the last one was ' .. (job.owner or '?') .. '.' }, now)
  elseif move(job, 'takeover') then
    record_attempt(job, LOST, 'retry', 'a lost worker is not the job\'s doing', 0, now)
    leave_run(job)
    happen(job, 'state', now, LOST)
    meter('job_retries|' .. LOST.reason)
    stand_in_line(job, now)
    tell(job, 'job.retrying', now, now, LOST)
  end
end

local function take_back_all(queue, now)
  local index = key('active', queue)
  for _, id in ipairs(due(index, now)) do
    local job = load(id)
    if job and job.status == 'active' then
      take_back(job, now)
    else
      redis.call('ZREM', index, id)
    end
  end
end

local function expire(job, now)
  return finish(job, 'expire', { conclusion = 'expired', reason = 'expired',
    message = 'The job did not start before its time was over.' }, now)
end

local function expire_all(now)
  for _, id in ipairs(due(key('expiring'), now)) do
    local job = load(id)
    redis.call('ZREM', key('expiring'), id)
    if job then
      expire(job, now)
    end
  end
end

local function bring_about(now)
  expire_all(now)
  for _, queue in ipairs(QUEUES) do
    promote(queue, now)
    take_back_all(queue, now)
  end
end
