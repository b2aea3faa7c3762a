-- Take a new job in: into the line, or beside it until it may start.
-- Repeating the call with the same id (a client's retry) changes nothing.
-- ARGV: 1 id, 2 request (JSON), 3 idempotency key or '', 4 hash of the body, 5 fingerprint or '', 6 delay in ms,
--       7 moment before which it does not start, or 0, 8 ms after which it expires, or 0, 9 '1' to supersede,
--       then field, value, ... of the record (queue, type, priority, chat_id in this order first).
-- Returns {'new' or 'known', record as field, value, ...}, or {'conflict', id}, {'full', waiting}, {'draining', reason}.
-- Alone among the moves it is refused when the server is full: what is inside must still be able to end.
local id, request, idempotency_key, body_hash, fingerprint = unpack(ARGV, 1, 5)
local delay_ms, run_at_ms, expires_in_ms, supersede = unpack(ARGV, 6, 9)
local queue, kind, chat = ARGV[11], ARGV[13], ARGV[17]
local now = now_ms()

local function known(other)
  return { other == id and 'new' or 'known', redis.call('HGETALL', key('job', other)) }
end

-- The job that this submission means again, if there is one.
local function same_as()
  if redis.call('EXISTS', key('job', id)) == 1 then
    return id
  end
  local hash, other = string.match(redis.call('GET', key('idempotency', idempotency_key)) or '', '^(%S*) (.+)$')
  if other and redis.call('EXISTS', key('job', other)) == 1 then
    return other, hash ~= body_hash
  end
  other = redis.call('GET', key('fingerprint', fingerprint))
  local status = other and redis.call('HGET', key('job', other), 'status')
  return status and not FINAL[status] and other or nil
end

local function draining()
  local own, all = unpack(redis.call('HMGET', key('draining'), queue, '*'))
  return own or all
end

local function remember()
  if idempotency_key ~= '' then
    redis.call('SET', key('idempotency', idempotency_key), body_hash .. ' ' .. id, 'PX', REMEMBER_KEY_MS)
  end
  if fingerprint ~= '' then
    redis.call('SET', key('fingerprint', fingerprint), id, 'PX', SAME_REQUEST_MS)
  end
end

local function keep()
  local expires_at_ms = tonumber(expires_in_ms) > 0 and now + expires_in_ms or 0
  redis.call('SET', key('request', id), request)
  redis.call('HSET', key('job', id), 'id', id, 'status', 'pending', 'created_ms', now, 'fence', 0, 'attempt', 0,
    'turn', redis.call('INCR', key('turn')), 'number', next_number(now), 'expires_at_ms', expires_at_ms,
    unpack(ARGV, 10))
  if expires_at_ms > 0 then
    redis.call('ZADD', key('expiring'), expires_at_ms, id)
  end
end

local same, conflict = same_as()
if conflict then
  return { 'conflict', same }
elseif same then
  return known(same)
elseif draining() then
  return { 'draining', draining() }
end
-- Jobs without a chat are in no such set: they supersede nothing.
local others = key('unfinished', kind .. ':' .. chat)
local older = supersede == '1' and redis.call('SMEMBERS', others) or {}
local waiting = redis.call('ZCARD', key('waiting', queue)) + redis.call('ZCARD', key('delayed', queue))
if waiting >= QUEUE_BOUND and #older == 0 then
  return { 'full', waiting }
end
keep()
remember()
for _, other in ipairs(older) do
  local job = load(other)
  if job then
    cancel(job, 'superseded', 'A newer job of the same chat took its place: ' .. id .. '.', now)
  end
end
if chat ~= '' then
  redis.call('SADD', others, id)
end
local job = load(id)
list(job)
happen(job, 'state', now)
wait(job, math.max(now + delay_ms, tonumber(run_at_ms)), now)
tell(job, 'job.queued', now, now)
count('added')
meter('jobs_submitted|' .. job.type)
return known(id)
