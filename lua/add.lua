-- Take new jobs in: each into the line, or beside it until it may start.
-- Repeating the call with the same ids (a client's retry) changes nothing.
-- ARGV: for each job the number of its arguments, and these:
--       1 id, 2 request (as Python keeps it), 3 idempotency key or '', 4 hash of the body, 5 fingerprint or '',
--       6 delay in ms, 7 moment before which it does not start, or 0, 8 ms after which it expires, or 0, 9 '1' to
--       supersede, 10 the buckets that a submission is taken from (see take),
--       then field, value, ... of the record (queue, type, priority, chat_id, tenant in this order first).
-- Returns for each {'new', what the script added to the record as field, value, ...}, or {'again' (the same call came
-- before) or 'known', record as field, value, ...}, or {'conflict', id}, {'full', waiting}, {'draining', reason},
-- {'limited', ''}, {'quota', {which, ms until it may be different}}; each with what take returned as third.
-- Alone among the moves it is refused when the server is full: what is inside must still be able to end.
local now = now_ms()

local function jobs_of(arguments)
  local jobs, at = {}, 1
  while at <= #arguments do
    local size = tonumber(arguments[at])
    jobs[#jobs + 1] = { unpack(arguments, at + 1, at + size) }
    at = at + size + 1
  end
  return jobs
end

local jobs = jobs_of(ARGV)
local left = #jobs         -- those that are not looked at yet, and the one that is
local next_turn, next_one  -- what comes next of the turns and numbers that were put aside for all of them
local in_line = {}         -- queue -> how many jobs wait there
local closed = {}          -- queue -> why it is drained, or false
local news = {}            -- type -> how a new job of it stands

-- A turn and a number for a new job.
local function places()
  if not next_turn then
    next_turn, next_one = redis.call('INCRBY', key('turn'), left) - left + 1, next_numbers(now, left)
  end
  next_turn, next_one = next_turn + 1, next_one + 1
  return next_turn - 1, string.format('%.0f', next_one - 1)
end

local function draining(queue)
  if closed[queue] == nil then
    local own, all = unpack(redis.call('HMGET', key('draining'), queue, '*'))
    closed[queue] = own or all
  end
  return closed[queue]
end

local function how_many_wait(queue)
  in_line[queue] = in_line[queue]
    or redis.call('ZCARD', key('waiting', queue)) + redis.call('ZCARD', key('delayed', queue))
  return in_line[queue]
end

-- Which quota of a tenant is used up, and for how long at least; nil if none is.
local function used_up(tenant)
  if tenant == '' or QUOTA_QUEUED + QUOTA_CPU_MS + QUOTA_BYTES == 0 then
    return nil
  end
  write_put_off()
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

-- Older jobs of the same chat make room for the new one.
local function supersede(older, id)
  write_put_off()
  for _, other in ipairs(older) do
    local old = load(other)
    if old then
      cancel(old, 'superseded', 'A newer job of the same chat took its place: ' .. id .. '.', now)
    end
  end
  in_line = {}
end

local function add(arg)
  local id, request, idempotency_key, body_hash, fingerprint = unpack(arg, 1, 5)
  local delay_ms, run_at_ms, expires_in_ms, supersedes = unpack(arg, 6, 9)
  local queue, kind, chat, tenant = arg[12], arg[14], arg[18], arg[20]
  local key_name, same_name = of_tenant(tenant, idempotency_key), of_tenant(tenant, fingerprint)
  local is_there = redis.call('EXISTS', key('job', id)) == 1
  local taken = take(is_there and '' or arg[10])

  local function known(other)
    return { other == id and 'again' or 'known', redis.call('HGETALL', key('job', other)), taken }
  end

  -- The job that this submission means again, if there is one.
  local function same_as()
    if is_there then
      return id
    end
    if idempotency_key ~= '' then
      local hash, other = string.match(redis.call('GET', key('idempotency', key_name)) or '', '^(%S*) (.+)$')
      if other and redis.call('EXISTS', key('job', other)) == 1 then
        return other, hash ~= body_hash
      end
    end
    local other = fingerprint ~= '' and redis.call('GET', key('fingerprint', same_name))
    local status = other and redis.call('HGET', key('job', other), 'status')
    return status and not FINAL[status] and other or nil
  end

  local function remember()
    if idempotency_key ~= '' then
      redis.call('SET', key('idempotency', key_name), body_hash .. ' ' .. id, 'PX', REMEMBER_KEY_MS)
    end
    if fingerprint ~= '' then
      redis.call('SET', key('fingerprint', same_name), id, 'PX', SAME_REQUEST_MS)
    end
  end

  -- The job as `load` would read it, in the lists and in the line.
  local function keep()
    local expires_at_ms = tonumber(expires_in_ms) > 0 and now + expires_in_ms or 0
    local turn, number = places()
    local job = { id = id, status = 'pending', expires_at_ms = expires_at_ms, turn = turn, number = number }
    for i = 11, #arg, 2 do
      job[arg[i]] = arg[i + 1]
    end
    job.chat = of_tenant(tenant, chat)
    redis.call('SET', key('request', id), request)
    redis.call('HSET', key('job', id), 'id', id, 'status', 'pending', 'created_ms', now, 'fence', 0, 'attempt', 0,
      'expires_at_ms', expires_at_ms, 'turn', turn, 'number', number, unpack(arg, 11))
    if expires_at_ms > 0 then
      zadd(key('expiring'), expires_at_ms, id)
    end
    put_writes_off()
    list(job)
    news[kind] = news[kind] or standing(job, now)
    announce(job, 'state', news[kind])
    wait(job, math.max(now + delay_ms, tonumber(run_at_ms)), now)
    in_line[queue] = in_line[queue] + 1
    return job
  end

  -- What this script alone knows of the record.
  local function added(job)
    local due_ms = math.max(now + delay_ms, tonumber(run_at_ms))
    return { 'created_ms', now, 'expires_at_ms', job.expires_at_ms, 'run_at_ms', due_ms > now and due_ms or 0,
      'seq', tell(job, 'job.queued', now, now) or 0 }
  end

  if taken[1] > 0 then
    return { 'limited', '', taken }
  end
  local same, conflict = same_as()
  if conflict then
    return { 'conflict', same, taken }
  elseif same then
    return known(same)
  elseif draining(queue) then
    return { 'draining', draining(queue), taken }
  end
  -- Jobs without a chat are in no such set: they supersede nothing.
  local others = key('unfinished', kind .. ':' .. of_tenant(tenant, chat))
  local older = supersedes == '1' and redis.call('SMEMBERS', others) or {}
  if how_many_wait(queue) >= QUEUE_BOUND and #older == 0 then
    return { 'full', how_many_wait(queue), taken }
  end
  local quota = #older == 0 and used_up(tenant)
  if quota then
    return { 'quota', quota, taken }
  end
  local job = keep()
  remember()
  if #older > 0 then
    supersede(older, id)
  end
  if chat ~= '' then
    redis.call('SADD', others, id)
  end
  put_writes_off()
  count('added')
  tally(job, 'added', 1)
  tally(job, queue .. ':pending', 1)
  meter('jobs_submitted|' .. job.type)
  return { 'new', added(job), taken }
end

local answers = {}
for i, arg in ipairs(jobs) do
  answers[i] = add(arg)
  left = left - 1
end
write_put_off()
return answers
