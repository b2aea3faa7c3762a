-- Go on with a delivery that takes longer than its lease, and note a file that its receiver has stored for it.
-- ARGV: 1 id, 2 fence, 3 lease in ms, 4 path of the file or '', 5 the receiver's id for it.
-- Returns 'ok', or 'lost' if another sender has it.
even_when_full()
local id, fence, lease_ms, path, storage_id = unpack(ARGV)
local KEPT_MS = 6 * 86400000 -- a Convex receiver deletes after a week what no result has named
local _, lane = parts_of(id)
local state, holder = unpack(redis.call('HMGET', key('delivery', id), 'state', 'fence'))
if path ~= '' and state then
  redis.call('HSET', key('stored', id), path, storage_id)
  redis.call('PEXPIRE', key('stored', id), KEPT_MS)
end
if state ~= 'pending' or holder ~= fence then
  return 'lost'
end
redis.call('ZADD', key('posting', lane), 'XX', now_ms() + lease_ms, id)
return 'ok'
