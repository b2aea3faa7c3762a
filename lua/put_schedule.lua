-- Put a schedule in the place of what it was made from.
-- ARGV: 1 id, 2 what is there ('' for nothing), 3 what shall be, 4 moment of its next tick or 0.
-- Returns 'ok', or 'changed' if something else is there.
if (redis.call('HGET', key('schedule'), ARGV[1]) or '') ~= ARGV[2] then
  return 'changed'
end
redis.call('HSET', key('schedule'), ARGV[1], ARGV[3])
if tonumber(ARGV[4]) > 0 then
  redis.call('ZADD', key('schedule_due'), ARGV[4], ARGV[1])
else
  redis.call('ZREM', key('schedule_due'), ARGV[1])
end
return 'ok'
