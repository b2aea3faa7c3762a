-- Take new jobs in: each into the line, or beside it until it may start.
-- Repeating the call with the same ids (a client's retry) changes nothing.
-- ARGV: for each job the number of its arguments, and these:
--       1 id, 2 request (JSON), 3 idempotency key or '', 4 hash of the body, 5 fingerprint or '', 6 delay in ms,
--       7 moment before which it does not start, or 0, 8 ms after which it expires, or 0, 9 '1' to supersede,
--       10 the buckets that a submission is taken from (see take),
--       then field, value, ... of the record (queue, type, priority, chat_id, tenant in this order first).
-- Returns for each {'new' or 'known', record as field, value, ...}, or {'conflict', id}, {'full', waiting},
-- {'draining', reason}, {'limited', ''}, {'quota', {which, ms until it may be different}}; each with what take returned
-- as third.
-- Alone among the moves it is refused when the server is full: what is inside must still be able to end.
local now = now_ms()

local function add(arg)
  local id, request, idempotency_key, body_hash, fingerprint = unpack(arg, 1, 5)
  local delay_ms, run_at_ms, expires_in_ms, supersede = unpack(arg, 6, 9)
  local queue, kind, chat, tenant = arg[12], arg[14], arg[18], arg[20]
  local key_name, same_name = of_tenant(tenant, idempotency_key), of_tenant(tenant, fingerprint)
  local taken = take(redis.call('EXISTS', key('job', id)) == 0 and arg[10] or '')

  local function known(other)
    return { other == id and 'new' or 'known', redis.call('HGETALL', key('job', other)), taken }
  end

  -- The job that this submission means again, if there is one.
  local function same_as()
    if redis.call('EXISTS', key('job', id)) == 1 then
      return id
    end
    local hash, other = string.match(redis.call('GET', key('idempotency', key_name)) or '', '^(%S*) (.+)$')
    if other and redis.call('EXISTS', key('job', other)) == 1 then
      return other, hash ~= body_hash
    end
    other = redis.call('GET', key('fingerprint', same_name))
    local status = other and redis.call('HGET', key('job', other), 'status')
    return status and not FINAL[status] and other or nil
  end

  local function draining()
    local own, all = unpack(redis.call('HMGET', key('draining'), queue, '*'))
    return own or all
  end

  -- Which quota of the tenant is used up, and for how long at least; nil if none is.
  local function used_up()
    if tenant == '' then
      return nil
    end
    local pending, forgotten = 0, tonumber(redis.call('GET', key('cpu', tenant))) or 0
    for _, name in ipairs(QUEUES) do
      pending = pending + (redis.call('HGET', key('tally', tenant), name .. ':pending') or 0)
    end
    if QUOTA_QUEUED > 0 and pending >= QUOTA_QUEUED then
      return { 'queued', 0 }
    elseif QUOTA_CPU_MS > 0 and forgotten - now >= 3600000 then
      return { 'cpu', forgotten - now - 3600000 + 1 }
    elseif QUOTA_BYTES > 0 and tonumber(redis.call('HGET', key('tally', tenant), 'bytes') or 0) >= QUOTA_BYTES then
      return { 'bytes', 0 }
    end
  end

  local function remember()
    if idempotency_key ~= '' then
      redis.call('SET', key('idempotency', key_name), body_hash .. ' ' .. id, 'PX', REMEMBER_KEY_MS)
    end
    if fingerprint ~= '' then
      redis.call('SET', key('fingerprint', same_name), id, 'PX', SAME_REQUEST_MS)
    end
  end

  -- The job as `load` would read it.
  local function keep()
    local expires_at_ms = tonumber(expires_in_ms) > 0 and now + expires_in_ms or 0
    local job = { id = id, status = 'pending', created_ms = now, fence = 0, attempt = 0, expires_at_ms = expires_at_ms,
      turn = redis.call('INCR', key('turn')), number = next_number(now) }
    local record = {}
    for name, value in pairs(job) do
      record[#record + 1], record[#record + 2] = name, value
    end
    for i = 11, #arg, 2 do
      job[arg[i]] = arg[i + 1]
    end
    redis.call('SET', key('request', id), request)
    redis.call('HSET', key('job', id), unpack(record))
    redis.call('HSET', key('job', id), unpack(arg, 11))
    if expires_at_ms > 0 then
      redis.call('ZADD', key('expiring'), expires_at_ms, id)
    end
    job.chat = of_tenant(tenant, chat)
    return job
  end

  if taken[1] > 0 then
    return { 'limited', '', taken }
  end
  local same, conflict = same_as()
  if conflict then
    return { 'conflict', same, taken }
  elseif same then
    return known(same)
  elseif draining() then
    return { 'draining', draining(), taken }
  end
  -- Jobs without a chat are in no such set: they supersede nothing.
  local others = key('unfinished', kind .. ':' .. of_tenant(tenant, chat))
  local older = supersede == '1' and redis.call('SMEMBERS', others) or {}
  local waiting = redis.call('ZCARD', key('waiting', queue)) + redis.call('ZCARD', key('delayed', queue))
  if waiting >= QUEUE_BOUND and #older == 0 then
    return { 'full', waiting, taken }
  end
  local quota = #older == 0 and used_up()
  if quota then
    return { 'quota', quota, taken }
  end
  local job = keep()
  remember()
  for _, other in ipairs(older) do
    local old = load(other)
    if old then
      cancel(old, 'superseded', 'A newer job of the same chat took its place: ' .. id .. '.', now)
    end
  end
  if chat ~= '' then
    redis.call('SADD', others, id)
  end
  list(job)
  happen(job, 'state', now)
  wait(job, math.max(now + delay_ms, tonumber(run_at_ms)), now)
  tell(job, 'job.queued', now, now)
  count('added')
  tally(job, 'added', 1)
  tally(job, queue .. ':pending', 1)
  meter('jobs_submitted|' .. job.type)
  return known(id)
end

local answers, at = {}, 1
while at <= #ARGV do
  local arg = {}
  for i = 1, tonumber(ARGV[at]) do
    arg[i] = ARGV[at + i]
  end
  answers[#answers + 1] = add(arg)
  at = at + #arg + 1
end
return answers
