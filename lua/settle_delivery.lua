-- Record what one try of a delivery came to. A receiver that has it has it, whoever tells; any other news is ignored if
-- the delivery was taken over meanwhile.
-- ARGV: 1 id, 2 fence, 3 'accepted', 'retry', 'exhausted' or 'disabled' (with its endpoint), 4 delay of a retry in ms,
--       5 HTTP status, 6 how long it took in ms, 7 note.
-- Returns 'ok' or 'lost'.
even_when_full()
local id, fence, verdict, delay_ms = unpack(ARGV, 1, 4)
local job_id, lane = parts_of(id)
local record, now = key('delivery', id), now_ms()
local KEPT_TRIES = 20

local state, holder, event, tries, number = unpack(redis.call('HMGET', record, 'state', 'fence', 'event', 'tries',
  'number'))
if state ~= 'pending' or (verdict ~= 'accepted' and holder ~= fence) then
  return 'lost'
end

local function record_try()
meter('webhook_deliveries|' .. lane .. '|' .. verdict)
  local known, list = pcall(cjson.decode, tries or '[]')
  list = known and type(list) == 'table' and list or {}
  list[#list + 1] = { at_ms = now, status = tonumber(ARGV[5]), duration_ms = tonumber(ARGV[6]), note = ARGV[7] }
  while #list > KEPT_TRIES do
    table.remove(list, 1)
  end
  redis.call('HSET', record, 'tries', cjson.encode(list))
  redis.call('HSET', key('endpoint', lane), 'last_ms', now, 'last_status', ARGV[5], 'last_note', ARGV[7])
end

-- Out of the way: listed with its state, unless nobody will ask for it.
local function put_away()
  if event == 'job.progress' or redis.call('EXISTS', key('job', job_id)) == 0 then
    return drop_delivery(id)
  end
  redis.call('ZREM', key('outbox', lane), id)
  redis.call('ZREM', key('pending', lane), id)
  redis.call('ZADD', key(verdict, lane), number, id)
  redis.call('HSET', record, 'state', verdict)
end

local function try_again(due_ms)
  redis.call('ZADD', key('outbox', lane), due_ms, id)
end

record_try()
redis.call('ZREM', key('posting', lane), id)
if verdict == 'accepted' then
  redis.call('HSET', key('endpoint', lane), 'accepted_ms', now)
  put_away()
elseif verdict == 'exhausted' then
  count('deliveries_given_up')
  put_away()
elseif verdict == 'retry' then
  try_again(now + delay_ms)
else
  redis.call('HSETNX', key('endpoint', lane), 'disabled_ms', now)
  redis.call('HSETNX', key('endpoint', lane), 'disabled_note', ARGV[7])
  try_again(now) -- as soon as the endpoint is enabled again
end
if redis.call('ZCARD', key('outbox', lane)) > 0 then
  ring_outbox(lane) -- there is room for one more, and a retry has a new moment
end
return 'ok'
