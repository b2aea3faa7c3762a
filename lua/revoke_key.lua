-- Let an API key open nothing from now on. The first time counts.
-- ARGV: 1 id.
-- Returns 'ok'.
even_when_full()
if redis.call('EXISTS', key('api_key', ARGV[1])) == 1 then
  redis.call('HSETNX', key('api_key', ARGV[1]), 'revoked_ms', now_ms())
end
return 'ok'
