-- The oldest finished jobs that need not be kept. Changes nothing. A job whose result is still to be delivered stays.
-- ARGV: 1 how many at most, 2 longest age in ms, 3 most finished jobs, 4 most bytes; 0 for no bound.
-- Returns ids, oldest first.

-- A receiver that said it is gone for good does not hold a job.
local function is_to_be_told(id)
  for _, delivery in ipairs(redis.call('SMEMBERS', key('told', id))) do
    local _, lane = parts_of(delivery)
    if redis.call('ZSCORE', key('pending', lane), delivery) and not is_disabled(lane) then
      return true
    end
  end
  return false
end

local limit, oldest_ms = tonumber(ARGV[1]), now_ms() - ARGV[2]
local jobs, candidates = 0, {}
for _, queue in ipairs(QUEUES) do
  for status in pairs(FINAL) do
    local index = key('ended', queue .. ':' .. status)
    jobs = jobs + redis.call('ZCARD', index)
    local found = redis.call('ZRANGE', index, 0, limit - 1, 'WITHSCORES')
    for i = 1, #found, 2 do
      candidates[#candidates + 1] = { id = found[i], ended_ms = tonumber(found[i + 1]) }
    end
  end
end
table.sort(candidates, function(a, b)
  return a.ended_ms < b.ended_ms
end)

local jobs_over = tonumber(ARGV[3]) > 0 and jobs - ARGV[3] or 0
local bytes_over = tonumber(ARGV[4]) > 0 and (redis.call('GET', key('kept_bytes')) or 0) - ARGV[4] or 0
local chosen = {}
for _, candidate in ipairs(candidates) do
  local too_old = tonumber(ARGV[2]) > 0 and candidate.ended_ms < oldest_ms
  if #chosen == limit or not (too_old or jobs_over > 0 or bytes_over > 0) then
    break
  end
  if not is_to_be_told(candidate.id) then
    local bytes = redis.call('HGET', key('job', candidate.id), 'bytes')
    chosen[#chosen + 1] = candidate.id
    jobs_over, bytes_over = jobs_over - 1, bytes_over - (bytes or 0)
  end
end
return chosen
