-- Keep a new job and put it in line. Repeating it (a client's retry) changes nothing.
-- ARGV: 1 id, 2 request (JSON), then field, value, ... of the record (queue, type, priority, chat_id among them).
-- Returns the record as field, value, ...
-- Alone among the moves it is refused when the server is full: what is inside must still be able to end.
local id = ARGV[1]
if redis.call('EXISTS', key('job', id)) == 0 then
  local now = now_ms()
  redis.call('SET', key('request', id), ARGV[2])
  redis.call('HSET', key('job', id), 'id', id, 'status', 'pending', 'created_ms', now, 'turn',
    redis.call('INCR', key('turn')), unpack(ARGV, 3))
  wait(load(id), now, now)
  count('added')
end
return redis.call('HGETALL', key('job', id))
