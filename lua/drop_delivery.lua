-- Forget a delivery that cannot be read.
-- ARGV: 1 id.
-- Returns 'ok'.
even_when_full()
drop_delivery(ARGV[1])
return 'ok'
