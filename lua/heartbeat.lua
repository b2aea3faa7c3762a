-- Say that a worker lives, how many jobs it runs at once, and what it says of itself.
-- ARGV: 1 worker, 2 slots, 3 ms after which it counts as gone, 4 what it says (JSON).
-- Returns 1 if it is to take no more jobs, else 0.
even_when_full()
redis.call('ZADD', key('workers'), now_ms() + ARGV[3], ARGV[1])
redis.call('HSET', key('slots'), ARGV[1], ARGV[2])
redis.call('HSET', key('worker_facts'), ARGV[1], ARGV[4])
return redis.call('SISMEMBER', key('drained'), ARGV[1])
