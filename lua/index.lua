-- How jobs are found, and how what happens to them is told to whoever looks on. Comes before common.lua.

local EVENTS_KEPT = 10000
local EVENTS_KEPT_OF_A_JOB = 1000 -- more than its phases, percents and attempts come to

-- The scores of so many new jobs in every index, from the first one on: the moment they come in, in microseconds.
-- Unique, and always larger than the last one, so they serve as cursors; below 2^53, so they are exact.
local function next_numbers(now, many)
  local last = tonumber(redis.call('GET', key('number')) or 0)
  local first = math.max(now * 1000, last + 1)
  redis.call('SET', key('number'), string.format('%.0f', first + many - 1))
  return first
end

-- Without a tenant: the index of everybody's jobs.
local function index_key(job, what)
  return key('index', (job.tenant or '') .. ':' .. what)
end

local function tags_of(job)
  if not job.tags then
    return {}
  end
  local known, tags = pcall(cjson.decode, job.tags)
  return known and type(tags) == 'table' and tags or {}
end

-- The names of all indexes that a job is in.
local function indexes_of(job)
  local names = { 'all', 'type:' .. job.type, 'status:' .. job.status }
  for name, value in pairs({ chat = job.chat_id, conclusion = job.conclusion, reason = job.reason }) do
    if value and value ~= '' then
      names[#names + 1] = name .. ':' .. value
    end
  end
  for _, tag in ipairs(tags_of(job)) do
    names[#names + 1] = 'tag:' .. tostring(tag)
  end
  return names
end

-- A record of before there were indexes has no number; the moment that it came in is near enough.
local function number_of(job)
  return job.number or string.format('%.0f', (tonumber(job.created_ms) or 0) * 1000)
end

local function list_in(job, what)
  zadd(index_key(job, what), number_of(job), job.id)
  if (job.tenant or '') ~= '' then
    zadd(index_key({}, what), number_of(job), job.id)
  end
end

local function unlist_from(job, what)
  redis.call('ZREM', index_key(job, what), job.id)
  if (job.tenant or '') ~= '' then
    redis.call('ZREM', index_key({}, what), job.id)
  end
end

local function list(job)
  for _, what in ipairs(indexes_of(job)) do
    list_in(job, what)
  end
end

local function unlist(job)
  for _, what in ipairs(indexes_of(job)) do
    unlist_from(job, what)
  end
end

local function tell_all(job, kind, data)
  return redis.call('XADD', key('events'), 'MAXLEN', '~', EVENTS_KEPT, '*', 'job', job.id, 'tenant', job.tenant or '',
    'kind', kind, 'data', data)
end

-- How a job stands now, as JSON. how: conclusion and reason, if a run or the job has ended.
-- `line` is how long the log is by now: it puts events and lines in order.
local function standing(job, now, how)
  return cjson.encode({
    type = job.type, status = job.status, attempt = tonumber(job.attempt) or 0, progress = tonumber(job.progress) or 0,
    phase = job.phase or '', conclusion = how and how.conclusion or '', reason = how and how.reason or '',
    at_ms = now, line = tonumber(job.log_lines) or 0,
  })
end

-- kind: 'state' or 'progress'; data: how the job stands.
local function announce(job, kind, data)
  local id = tell_all(job, kind, data)
  if redis.call('RPUSH', key('events_of', job.id), id .. ' ' .. kind .. ' ' .. data) > EVENTS_KEPT_OF_A_JOB then
    redis.call('LPOP', key('events_of', job.id))
  end
end

local function happen(job, kind, now, how)
  announce(job, kind, standing(job, now, how))
end
