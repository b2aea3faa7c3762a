-- Let happen what is due, and forget workers that have not been heard of. Harmless however often and by how many.
-- Returns 'ok'.
even_when_full()
local now = now_ms()
bring_about(now)
for _, worker in ipairs(due(key('workers'), now)) do
  redis.call('ZREM', key('workers'), worker)
  redis.call('HDEL', key('slots'), worker)
  redis.call('HDEL', key('worker_facts'), worker)
  redis.call('SREM', key('drained'), worker)
end
return 'ok'
