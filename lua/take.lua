-- Take one request out of each of some buckets, or out of none if one of them is empty.
-- ARGV: 1 the buckets (see take).
-- Returns what take returns.
even_when_full()
return take(ARGV[1])
