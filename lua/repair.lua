-- Bring records and indexes together where something else than the moves tore them apart.
-- ARGV: ids of records.
-- Returns the ids whose records cannot be used; they are taken out of the way by set_aside.lua.
even_when_full()
local now = now_ms()
local broken = {}

local function is_in(name, job, suffix)
  return redis.call('ZSCORE', key(name, job.queue .. (suffix or '')), job.id)
end

local function repair(job)
  if job.status == 'pending' and not (is_in('waiting', job) or is_in('delayed', job)) then
    stand_in_line(job, now)
  elseif job.status == 'active' and not is_in('active', job) then
    redis.call('ZADD', key('active', job.queue), now, job.id) -- as a lease that is over: it is taken back
  elseif FINAL[job.status] and not is_in('ended', job, ':' .. job.status) then
    redis.call('ZADD', key('ended', job.queue .. ':' .. job.status), now, job.id)
  else
    return
  end
  count('repaired')
end

-- Also how a store of before there were indexes comes by them.
local function list_again(job)
  if not redis.call('ZSCORE', index_key(job, 'all'), job.id) then
    redis.call('HSETNX', key('job', job.id), 'number', number_of(job))
    list(job)
    count('listed')
  end
end

local known = {}
for _, queue in ipairs(QUEUES) do
  known[queue] = true
end
for _, id in ipairs(ARGV) do
  local job = load(id)
  local is_ours = job and known[job.queue] and (FINAL[job.status] or job.status == 'pending' or job.status == 'active')
  if is_ours then
    repair(job)
    list_again(job)
  elseif job and string.match(job.queue, '^[a-z]+$') and string.match(job.status, '^[a-z]+$') then
    count('strange') -- a newer release's, which it knows how to go on with
  elseif redis.call('EXISTS', key('job', id)) == 1 then
    broken[#broken + 1] = id
  end
end
return broken
