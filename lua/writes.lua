-- Writes that many jobs of one call have in common: put off and done together, each key once. A command costs a
-- microsecond or two, whether it writes one job or a hundred. Comes before index.lua.

local put_off -- {sets = {key = {score, member, ...}}, lowest = the same, counts = {key = {field = by}}}; nil: none is

-- From here on nothing that was written through zadd, lower and hincrby can be read, until write_put_off.
local function put_writes_off()
  put_off = put_off or { sets = {}, lowest = {}, counts = {} }
end

local function write_put_off()
  local writes = put_off or { sets = {}, lowest = {}, counts = {} }
  put_off = nil
  for name, members in pairs(writes.sets) do
    redis.call('ZADD', name, unpack(members))
  end
  for name, members in pairs(writes.lowest) do
    redis.call('ZADD', name, 'LT', unpack(members))
  end
  for name, fields in pairs(writes.counts) do
    for field, by in pairs(fields) do
      redis.call('HINCRBY', name, field, by)
    end
  end
end

local function append(to, name, score, member)
  local members = to[name] or {}
  members[#members + 1], members[#members + 2] = score, member
  to[name] = members
end

local function zadd(name, score, member)
  if put_off then
    return append(put_off.sets, name, score, member)
  end
  redis.call('ZADD', name, score, member)
end

-- The same for a member that moves only down.
local function lower(name, score, member)
  if put_off then
    return append(put_off.lowest, name, score, member)
  end
  redis.call('ZADD', name, 'LT', score, member)
end

-- Without an answer: what needs the sum asks Redis.
local function hincrby(name, field, by)
  if put_off then
    local fields = put_off.counts[name] or {}
    fields[field] = (fields[field] or 0) + by
    put_off.counts[name] = fields
    return
  end
  redis.call('HINCRBY', name, field, by)
end
