-- Keep something broken or forged for people to look at; the newest 200.
-- ARGV: 1 what it was and why (JSON).
-- Returns 'ok'.
even_when_full()
redis.call('LPUSH', key('quarantine'), ARGV[1])
redis.call('LTRIM', key('quarantine'), 0, 199)
count('quarantined')
return 'ok'
