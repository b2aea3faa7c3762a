-- Close a queue on one side: paused, nothing starts; draining, nothing is taken in.
-- ARGV: 1 'paused' or 'draining', 2 queue or *, 3 reason.
-- Returns 'ok'.
even_when_full()
redis.call('HSET', key(ARGV[1]), ARGV[2], string.format('%d|%s', now_ms(), ARGV[3]))
return 'ok'
