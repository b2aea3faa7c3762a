-- Whose turn it is. Shared by claim.lua and waiting.lua.

local AGED_TURN = 4 -- every so many claims go to a priority whose oldest job has waited too long

local function is_paused(queue)
  local own, all = unpack(redis.call('HMGET', key('paused'), queue, '*'))
  return (own or all) and true or false
end

local function open_queues()
  local open = {}
  for _, queue in ipairs(QUEUES) do
    if not is_paused(queue) then
      open[#open + 1] = queue
    end
  end
  return open
end

-- The queue and flow at the head of all lines, and its place; nil if nobody waits.
local function head(queues)
  local best_queue, best_flow, best_place
  for _, queue in ipairs(queues) do
    local first = redis.call('ZRANGE', key('ready', queue), 0, 0, 'WITHSCORES')
    local its_place = tonumber(first[2])
    if its_place and (not best_place or its_place < best_place) then
      best_queue, best_flow, best_place = queue, first[1], its_place
    end
  end
  return best_queue, best_flow, best_place
end

-- The job that has waited longest, if that is too long, as queue and priority.
local function neglected(queues, now)
  local oldest, found_in, since = nil, nil, now - AGEING_MS
  for _, queue in ipairs(queues) do
    local first = redis.call('ZRANGE', key('waiting', queue), 0, 0, 'WITHSCORES')
    if first[2] and tonumber(first[2]) < since then
      oldest, found_in, since = first[1], queue, tonumber(first[2])
    end
  end
  local job = oldest and load(oldest)
  return job and found_in, job and job.priority
end

-- The head of a neglected priority, if it comes behind `its_place`; else nil.
local function aged_head(queues, its_place, now)
  local queue, priority = neglected(queues, now)
  if not queue then
    return nil
  end
  local from, to = place(priority, 0), place(priority, PLACES_PER_PRIORITY)
  local flow = redis.call('ZRANGEBYSCORE', key('ready', queue), from, to, 'LIMIT', 0, 1)[1]
  if flow and from > its_place then
    return queue, flow
  end
end

-- True if the chat of this flow runs as many jobs as it may; the flow then waits until one of them ends.
local function hold(queue, flow)
  local chat = string.match(flow, '^-?%d+:(.*[^\n])$') -- what ends with the tenant has no chat
  if CHAT_LIMIT == 0 or not chat or redis.call('SCARD', key('running', chat)) < CHAT_LIMIT then
    return false
  end
  redis.call('ZREM', key('ready', queue), flow)
  redis.call('SADD', key('held', chat), queue .. ':' .. flow)
  return true
end
