-- Jobs that stand in all of the given indexes, newest first. Changes nothing. The smallest index is walked, the others
-- are asked about each job.
-- ARGV: 1 tenant, 2 how many at most, 3 number below which to begin, or +inf, 4 smallest number, or -inf,
--       5 how many jobs to look at, 6 text in lower case that id, message or tags must hold, or '', 7 ... indexes.
-- Returns {number to go on below, or '' after the last, jobs that were looked at, id, ...}.
local STEP = 200
local limit, budget, text = tonumber(ARGV[2]), tonumber(ARGV[5]), ARGV[6]
local owner = { tenant = ARGV[1] }

local function smallest()
  local best, best_size
  for i = 7, #ARGV do
    local size = redis.call('ZCARD', index_key(owner, ARGV[i]))
    if not best or size < best_size then
      best, best_size = i, size
    end
  end
  return best
end

local walked = smallest()
local others = {}
for i = 7, #ARGV do
  if i ~= walked then
    others[#others + 1] = index_key(owner, ARGV[i])
  end
end

-- Of these ids, those that stand in all other indexes.
local function in_all_others(ids)
  local inside = {}
  for _, id in ipairs(ids) do
    inside[id] = true
  end
  for _, other in ipairs(others) do
    for i, score in ipairs(redis.call('ZMSCORE', other, unpack(ids))) do
      inside[ids[i]] = inside[ids[i]] and score and true
    end
  end
  return inside
end

local function holds_text(id)
  if text == '' or string.find(id, text, 1, true) then
    return true
  end
  local told = redis.call('HMGET', key('job', id), 'message', 'tags')
  return string.find(string.lower((told[1] or '') .. '\n' .. (told[2] or '')), text, 1, true) ~= nil
end

local found, numbers, looked, below = {}, {}, 0, ARGV[3]
while looked < budget and #found <= limit do
  local bound = below == '+inf' and below or '(' .. below
  local page = redis.call('ZREVRANGEBYSCORE', index_key(owner, ARGV[walked]), bound, ARGV[4], 'WITHSCORES', 'LIMIT', 0,
    math.min(STEP, budget - looked))
  local ids = {}
  for i = 1, #page, 2 do
    ids[#ids + 1] = page[i]
  end
  if #ids == 0 then
    below = ''
    break
  end
  local inside = in_all_others(ids)
  for i, id in ipairs(ids) do
    looked, below = looked + 1, page[i * 2]
    if inside[id] and holds_text(id) then
      found[#found + 1], numbers[#numbers + 1] = id, below
      if #found > limit then
        break
      end
    end
  end
end
if #found > limit then -- the one too many only says that there are more
  below = numbers[limit]
  found[#found] = nil
end
return { below, looked, unpack(found) }
