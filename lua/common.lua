-- What several moves share. Comes after keys.lua and the constants that Python writes on top of every script:
-- TYPES, ASKS and KNOWN_EVENTS (the job types, fields of a request and events that this release knows),
-- PREFIX, MOVES (jobs.TRANSITIONS: name -> {from = {status = true}, to = status}), FINAL ({status = true}), QUEUES,
-- NOTIFY (jobs that name no endpoint are told to DEFAULT_ENDPOINT), and the fields of store.Rules in capitals.
-- A job's record has, beside the fields of jobs.Job: queue, turn (its place in its flow), outcome (how the last run
-- left it: fence|conclusion|reason), attempt_started_ms, log_from (log_lines when the attempt began), bytes (what it
-- occupies), chat (not stored: the chat, apart from other tenants' chats), progress_seq (of the last progress that was told), progress_waits ('1' until a sender took it) and
-- progress_due_ms.

local PLACES_PER_PRIORITY = 1e13 -- turns are smaller; priority * this + turn stays exact in a double
local PROGRESS_EVERY_MS = 2000
local BATCH = 100

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Redis refuses writes that need memory when it is full, unless the script has written before. Removing a key that
-- never exists counts as a write, so the moves that begin with this can end jobs and empty a full server.
local function even_when_full()
  redis.call('DEL', key('nothing'))
end

local function count(what)
  hincrby(key('counters'), what, 1)
end

-- Count for metrics (see metrics.py): name and labels, joined by |.
local function meter(field)
  hincrby(key('figures'), field, 1)
end

local function observe(series, ms)
  local bucket = 'inf'
  for _, bound in ipairs(BUCKETS_MS) do
    if ms <= bound then
      bucket = string.format('%d', bound)
      break
    end
  end
  meter(series .. '|' .. bucket)
  redis.call('HINCRBY', key('figures'), series .. '|sum', math.max(0, math.floor(ms)))
end

local FIELDS = {
  'status', 'queue', 'type', 'priority', 'chat_id', 'turn', 'fence', 'attempt', 'owner', 'stalls', 'created_ms',
  'started_ms', 'expires_at_ms', 'attempt_started_ms', 'log_from', 'log_lines', 'progress', 'phase', 'cancel_reason',
  'cancel_message', 'outcome', 'run_at_ms', 'attempts', 'bytes', 'webhook', 'progress_seq', 'progress_waits',
  'progress_due_ms', 'number', 'tenant', 'tags', 'conclusion', 'reason', 'asks',
}

-- A name that a caller chose, apart from the same name of another tenant. No name holds a line break.
local function of_tenant(tenant, name)
  return tenant == '' and name or tenant .. '\n' .. name
end

-- The record as a table of strings (false where a field is missing), or nil if there is none that can be used.
local function load(id)
  local values = redis.pcall('HMGET', key('job', id), unpack(FIELDS))
  if values.err then
    return nil
  end
  local job = { id = id }
  for i, name in ipairs(FIELDS) do
    job[name] = values[i]
  end
  if not (job.status and job.queue and job.type and job.chat_id and tonumber(job.priority) and tonumber(job.turn)) then
    return nil
  end
  job.tenant = job.tenant or ''
  job.chat = of_tenant(job.tenant, job.chat_id)
  return job
end

-- Count something of a tenant's: jobs in a state, bytes, events.
local function tally(job, what, by)
  if job.tenant ~= '' and by ~= 0 then
    hincrby(key('tally', job.tenant), what, by)
  end
end

-- Whether a job waits for its moment.
local function leave_delayed(job)
  tally(job, job.queue .. ':delayed', -redis.call('ZREM', key('delayed', job.queue), job.id))
end

-- The only place where a status changes. False if the table of moves does not allow it.
local function move(job, name)
  if not MOVES[name].from[job.status] then
    return false
  end
  tally(job, job.queue .. ':' .. job.status, -1)
  unlist_from(job, 'status:' .. job.status)
  job.status = MOVES[name].to
  list_in(job, 'status:' .. job.status)
  tally(job, job.queue .. ':' .. job.status, 1)
  redis.call('HSET', key('job', job.id), 'status', job.status)
  return true
end

-- True if this run owns the job. Everything a run writes is checked so; what comes too late is counted.
local function holds(job, fence)
  if job and job.status == 'active' and job.fence == fence then
    return true
  end
  count('stale_refused')
  return false
end

-- The line --------------------------------------------------------------------------------------------------------

local function ring()
  zadd(key('bell'), 0, '1')
end

local function flow_of(job)
  return job.priority .. ':' .. job.chat
end

-- Larger priorities come first, then the smaller turn.
local function place(priority, turn)
  return -priority * PLACES_PER_PRIORITY + turn
end

-- A flow stands in the line once: where its oldest job belongs, or behind the others once it was served.
local function stand_in_line(job, since_ms)
  local flow = flow_of(job)
  zadd(key('waiting', job.queue), since_ms, job.id)
  zadd(key('flow', job.queue .. ':' .. flow), job.turn, job.id)
  lower(key('ready', job.queue), place(job.priority, job.turn), flow)
  ring()
end

-- Behind all flows of its priority, if the flow has jobs left: chats take turns.
local function stand_at_the_end(queue, flow)
  local priority = tonumber(string.match(flow, '^(-?%d+):'))
  if priority and redis.call('EXISTS', key('flow', queue .. ':' .. flow)) == 1 then
    redis.call('ZADD', key('ready', queue), place(priority, redis.call('INCR', key('turn'))), flow)
  else
    redis.call('ZREM', key('ready', queue), flow)
  end
end

local function leave_line(job)
  local flow = flow_of(job)
  leave_delayed(job)
  redis.call('ZREM', key('waiting', job.queue), job.id)
  redis.call('ZREM', key('left', job.queue), job.id)
  redis.call('ZREM', key('flow', job.queue .. ':' .. flow), job.id)
  if redis.call('EXISTS', key('flow', job.queue .. ':' .. flow)) == 0 then
    redis.call('ZREM', key('ready', job.queue), flow)
  end
end

-- Into the line, or beside it until `due_ms`.
local function wait(job, due_ms, now)
  if due_ms <= now then
    return stand_in_line(job, due_ms)
  end
  tally(job, job.queue .. ':delayed', redis.call('ZADD', key('delayed', job.queue), due_ms, job.id))
  redis.call('HSET', key('job', job.id), 'run_at_ms', due_ms)
  ring() -- so that a waiting worker learns the new moment
end

-- Runs and ends ---------------------------------------------------------------------------------------------------

-- True if the job fails should it lose its worker once more.
local function is_last_chance(job)
  return MAX_STALLS > 0 and (tonumber(job.stalls) or 0) >= MAX_STALLS
end

-- A run that ends may be what its chat's held flows wait for.
local function leave_run(job)
  redis.call('ZREM', key('active', job.queue), job.id)
  redis.call('SREM', key('running', job.chat), job.id)
  if is_last_chance(job) then
    redis.call('SREM', key('last_chance'), job.id)
  end
  redis.call('HDEL', key('job', job.id), 'owner')
  for _, held in ipairs(redis.call('SMEMBERS', key('held', job.chat))) do
    local queue, flow = string.match(held, '^([^:]*):(.*)$')
    stand_at_the_end(queue, flow)
    ring()
  end
  redis.call('DEL', key('held', job.chat))
end

-- Append this attempt to the record. how: conclusion, reason, message; decision: 'final', 'retry'; why: one sentence.
local function record_attempt(job, how, decision, why, delay_ms, now)
  local entry = cjson.encode({
    attempt = tonumber(job.attempt), fence = tonumber(job.fence), owner = job.owner or '',
    started_ms = tonumber(job.attempt_started_ms or now), finished_ms = now,
    conclusion = how.conclusion, reason = how.reason, message = how.message,
    log_from = tonumber(job.log_from or 0), log_to = tonumber(job.log_lines or 0),
    decision = decision, why = why, delay_ms = delay_ms,
  })
  job.attempts = (job.attempts and job.attempts .. ',' or '') .. entry
  redis.call('HSET', key('job', job.id), 'attempts', job.attempts)
end

-- Deliveries ------------------------------------------------------------------------------------------------------

local function ring_outbox(lane)
  redis.call('ZADD', key('outbox_bell', lane), 0, '1')
end

local function is_disabled(lane)
  return redis.call('HEXISTS', key('endpoint', lane), 'disabled_ms') == 1
end

-- The endpoints that a job is told to.
local function lanes_of(job)
  local known, names = pcall(cjson.decode, job.webhook or 'null')
  if known and type(names) == 'table' then
    return names
  end
  return NOTIFY and { DEFAULT_ENDPOINT } or {}
end

-- Job and endpoint in a delivery's id.
local function parts_of(id)
  local job_id, lane = string.match(id, '^(.*)%-%d+%.([%w_-]+)$')
  return job_id or '', lane or ''
end

local function drop_delivery(id)
  local job_id, lane = parts_of(id)
  for _, name in ipairs({ 'outbox', 'posting', 'pending', 'accepted', 'exhausted' }) do
    redis.call('ZREM', key(name, lane), id)
  end
  redis.call('SREM', key('told', job_id), id)
  redis.call('DEL', key('delivery', id), key('stored', id))
end

-- What an event before the end tells, as fields of a delivery.
local function news(job, now)
  return { 'status', job.status, 'job_attempt', job.attempt or 0, 'progress', job.progress or 0, 'phase',
    job.phase or '', 'at_ms', now }
end

local function add_delivery(job, event, lane, seq, due_ms, now)
  local id = job.id .. '-' .. seq .. '.' .. lane
  local number = redis.call('INCR', key('delivery_number'))
  redis.call('HSET', key('delivery', id), 'job_id', job.id, 'event', event, 'endpoint', lane, 'seq', seq,
    'state', 'pending', 'attempt', 0, 'fence', 0, 'created_ms', now, 'number', number, 'tenant', job.tenant,
    unpack(news(job, now)))
  redis.call('ZADD', key('outbox', lane), due_ms, id)
  redis.call('ZADD', key('pending', lane), number, id)
  redis.call('SADD', key('told', job.id), id)
  redis.call('SADD', key('lanes'), lane)
  ring_outbox(lane)
  return id
end

-- Tell an event to the endpoints of a job, if it is one that is told at all. why: reason and message, if there are any.
-- Returns the event's seq, or nil.
local function tell(job, event, due_ms, now, why)
  local lanes = EVENTS[event] and lanes_of(job) or {}
  local seq = #lanes > 0 and redis.call('HINCRBY', key('job', job.id), 'seq', 1) or nil
  for _, lane in ipairs(lanes) do
    local id = add_delivery(job, event, lane, seq, due_ms, now)
    if why then
      redis.call('HSET', key('delivery', id), 'reason', why.reason, 'message', why.message)
    end
  end
  return seq
end

-- Progress that no sender has taken yet is not worth sending once there is something newer.
local function drop_waiting_progress(job)
  for _, lane in ipairs(job.progress_seq and lanes_of(job) or {}) do
    local id = job.id .. '-' .. job.progress_seq .. '.' .. lane
    if redis.call('ZSCORE', key('outbox', lane), id) then
      drop_delivery(id)
    end
  end
end

-- The end ---------------------------------------------------------------------------------------------------------

-- How long runs of this type take, and of all types: each new one counts a fifth.
local function learn_pace(job, duration_ms)
  for _, name in ipairs({ job.type, '*' }) do
    local known = tonumber(redis.call('HGET', key('pace'), name) or duration_ms)
    redis.call('HSET', key('pace'), name, math.floor(known + (duration_ms - known) / 5))
  end
end

-- Whoever ends a job does it here. how: conclusion, reason, message. False if the move is not allowed.
local function finish(job, name, how, now)
  local was_active = job.status == 'active'
  if not move(job, name) then
    return false
  end
  local bytes = (tonumber(job.bytes) or 0) + redis.call('STRLEN', key('request', job.id))
  redis.call('HSET', key('job', job.id), 'finished_ms', now, 'conclusion', how.conclusion, 'reason', how.reason,
    'message', how.message, 'bytes', bytes)
  redis.call('INCRBY', key('kept_bytes'), bytes)
  tally(job, 'bytes', bytes)
  if was_active then
    leave_run(job)
  else
    leave_line(job)
    redis.call('ZREM', key('expiring'), job.id)
  end
  redis.call('SREM', key('unfinished', job.type .. ':' .. job.chat), job.id)
  redis.call('ZADD', key('ended', job.queue .. ':' .. job.status), now, job.id)
  list_in(job, 'conclusion:' .. how.conclusion)
  if how.reason ~= '' then
    list_in(job, 'reason:' .. how.reason)
  end
  happen(job, 'state', now, how)
  if how.conclusion == 'error' then
    redis.call('ZADD', key('dead'), redis.call('INCR', key('dead_number')), job.id)
  end
  drop_waiting_progress(job)
  local event = how.conclusion == 'cancelled' and 'cancelled' or job.status
  tell(job, 'job.' .. event, now, now)
  count('ended_' .. how.conclusion)
  meter('jobs_finished|' .. job.type .. '|' .. how.conclusion .. '|' .. how.reason)
  tally(job, 'ended_' .. how.conclusion, 1)
  return true
end

-- How a job ends that was cancelled: its flag says why.
local function as_cancelled(job)
  return { conclusion = 'cancelled', reason = job.cancel_reason, message = job.cancel_message or '' }
end

-- End a pending job, ask the run of an active one to stop; the first reason counts.
local function cancel(job, reason, message, now)
  local ended = finish(job, 'cancel', { conclusion = 'cancelled', reason = reason, message = message }, now)
  if not ended and job.status == 'active' and not job.cancel_reason then
    redis.call('HSET', key('job', job.id), 'cancel_reason', reason, 'cancel_message', message)
    happen(job, 'state', now, { reason = reason })
  end
end

-- Forget a job with everything that names it.
local function forget(job)
  leave_line(job)
  leave_run(job)
  unlist(job)
  redis.call('ZREM', key('expiring'), job.id)
  redis.call('SREM', key('unfinished', job.type .. ':' .. job.chat), job.id)
  for status in pairs(FINAL) do
    if redis.call('ZREM', key('ended', job.queue .. ':' .. status), job.id) == 1 then
      redis.call('DECRBY', key('kept_bytes'), tonumber(job.bytes) or 0)
      tally(job, 'bytes', -(tonumber(job.bytes) or 0))
    end
  end
  tally(job, job.queue .. ':' .. job.status, -1)
  redis.call('ZREM', key('dead'), job.id)
  for _, id in ipairs(redis.call('SMEMBERS', key('told', job.id))) do
    drop_delivery(id)
  end
  redis.call('DEL', key('job', job.id), key('request', job.id), key('log', job.id), key('events_of', job.id))
end

-- Named functions ---------------------------------------------------------------------------------------------------

local function version_key(name, number)
  return key('version', name .. ':' .. number)
end

-- Forget a version. Returns the job that made it.
local function drop_version(name, number)
  local version = version_key(name, number)
  local job, bytes = unpack(redis.call('HMGET', version, 'job', 'bytes'))
  redis.call('DECRBY', key('functions_bytes'), bytes or 0)
  redis.call('DEL', version)
  redis.call('ZREM', key('versions', name), number)
  return job or ''
end

-- Rates and quotas -------------------------------------------------------------------------------------------------

-- Take one request out of each bucket, or out of none if one is empty. A bucket of `burst` requests gets one more every
-- `every_us`; all that is kept of it is the moment when it is full again (GCRA).
-- buckets: JSON [[name, every_us, burst], ...], or '' for none.
-- Returns {number of the empty bucket or 0, us until it has one, then for each bucket: requests left, us until full}.
local function take(buckets)
  if buckets == '' then
    return { 0, 0 }
  end
  local time, rates = redis.call('TIME'), cjson.decode(buckets)
  local now, taken, full_at = time[1] * 1e6 + time[2], { 0, 0 }, {}
  for i, rate in ipairs(rates) do
    local name, every, burst = unpack(rate)
    local until_full = math.max(0, (tonumber(redis.call('GET', key('rate', name))) or 0) - now)
    local lacks = until_full + every - burst * every
    if lacks > 0 and taken[1] == 0 then
      taken[1], taken[2] = i, lacks
    end
    full_at[i] = until_full
  end
  for i, rate in ipairs(rates) do
    local name, every, burst = unpack(rate)
    local until_full = full_at[i] + (taken[1] == 0 and every or 0)
    if taken[1] == 0 then
      redis.call('SET', key('rate', name), string.format('%.0f', now + until_full), 'PX', math.ceil(until_full / 1000))
    end
    taken[2 * i + 1], taken[2 * i + 2] = math.max(0, math.floor((burst * every - until_full) / every)), until_full
  end
  return taken
end

-- CPU time that a tenant used is forgotten evenly, its quota in an hour.
local function charge_cpu(tenant, cpu_ms, now)
  if QUOTA_CPU_MS == 0 or tenant == '' or cpu_ms <= 0 then
    return
  end
  local forgotten = math.max(now, tonumber(redis.call('GET', key('cpu', tenant))) or 0)
  forgotten = forgotten + math.ceil(cpu_ms * 3600000 / QUOTA_CPU_MS)
  redis.call('SET', key('cpu', tenant), string.format('%.0f', forgotten), 'PX', string.format('%.0f', forgotten - now))
end
