-- Every key of the store: its name, what follows the name, its type and meaning. All begin with the prefix.
-- Python reads this table too (store/connection.py), so a key has one name in both languages.
-- A move learns some of its keys while it runs (the job it takes decides), so the scripts take no KEYS and need one
-- server, not a cluster. Moments are Unix milliseconds of the server's clock.
local KEY = {
  -- one job
  job = 'job:',              -- <id>     HASH    the record: fields of jobs.Job, and those named in common.lua
  request = 'request:',      -- <id>     STRING  the request as JSON, up to 10 MB; apart, to keep reading a record cheap
  log = 'log:',              -- <id>     STREAM  output chunks; an entry's id is <number of the line after it>-0
  -- the line
  waiting = 'waiting:',      -- <queue>  ZSET    jobs that may start: id -> moment since when
  delayed = 'delayed:',      -- <queue>  ZSET    pending jobs that may not start yet: id -> moment when they may
  flow = 'flow:',            -- <queue>:<priority>:<chat>  ZSET  one chat's waiting jobs: id -> its turn
  ready = 'ready:',          -- <queue>  ZSET    flows that may be served: <priority>:<chat> -> place in the line
  turn = 'turn',             --          STRING  counter; gives each job its turn, and a served flow a new place
  bell = 'bell',             --          ZSET    one member while there may be work; popped by a worker that waits
  -- runs
  active = 'active:',        -- <queue>  ZSET    jobs under a lease: id -> moment when the lease ends
  running = 'running:',      -- <chat>   SET     ids of a chat's active jobs
  -- ends
  ended = 'ended:',          -- <queue>:<status>  ZSET  finished jobs: id -> moment of the end
  counters = 'counters',     --          HASH    what happened how often, for metrics
  -- webhooks
  outbox = 'outbox',         --          ZSET    deliveries to make: id -> moment when due (leased: when the lease ends)
  delivery = 'delivery:',    -- <id>     HASH    job_id, event, seq, attempt, created_ms, owner, note
  outbox_bell = 'outbox_bell', --        ZSET    like bell, for deliveries
  given_up = 'given_up',     --          ZSET    deliveries nobody accepted: id -> moment of giving up
  nothing = 'nothing',       --          never exists; see common.lua
}

local function key(name, rest)
  return PREFIX .. KEY[name] .. (rest or '')
end
