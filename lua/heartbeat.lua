-- Say that a worker lives, and how many jobs it runs at once.
-- ARGV: 1 worker, 2 slots, 3 ms after which it counts as gone.
-- Returns 'ok'.
even_when_full()
redis.call('ZADD', key('workers'), now_ms() + ARGV[3], ARGV[1])
redis.call('HSET', key('slots'), ARGV[1], ARGV[2])
return 'ok'
