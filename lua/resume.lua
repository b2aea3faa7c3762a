-- Open queues again on both sides, and wake a worker.
-- ARGV: queues, * among them for what closed all.
-- Returns 'ok'.
even_when_full()
redis.call('HDEL', key('paused'), unpack(ARGV))
redis.call('HDEL', key('draining'), unpack(ARGV))
ring()
return 'ok'
