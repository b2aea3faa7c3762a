-- Every key of the store: its name, what follows the name, its type and meaning. All begin with the prefix.
-- Python reads this table too (store/connection.py), so a key has one name in both languages.
-- A move learns some of its keys while it runs (the job it takes decides), so the scripts take no KEYS and need one
-- server, not a cluster. Moments are Unix milliseconds of the server's clock.
-- <chat>, and what a submission is known by, stand behind their tenant and a line break where there is one.
local KEY = {
  -- one job
  job = 'job:',              -- <id>     HASH    the record: fields of jobs.Job, and those named in common.lua
  request = 'request:',      -- <id>     STRING  the request (see jobs.Request), up to 10 MB; apart, to keep reading a record cheap
  log = 'log:',              -- <id>     STREAM  output chunks; an entry's id is <number of the line after it>-0
  events_of = 'events_of:',  -- <id>     LIST    what happened to it, oldest first: <id in events> <kind> <JSON>
  -- all jobs
  number = 'number',         --          STRING  the last number; each job gets one: the µs it came in, made unique
  index = 'index:',          -- <tenant>:<what>  ZSET  jobs by what (see index.lua): id -> number
  events = 'events',         --          STREAM  what happened to any job: job, tenant, kind, data (JSON)
  -- the line
  waiting = 'waiting:',      -- <queue>  ZSET    jobs that may start: id -> moment since when
  left = 'left:',            -- <queue>  ZSET    of those, jobs that only a newer release can run: id -> moment since when
  delayed = 'delayed:',      -- <queue>  ZSET    pending jobs that may not start yet: id -> moment when they may
  flow = 'flow:',            -- <queue>:<priority>:<chat>  ZSET  one chat's waiting jobs: id -> its turn
  ready = 'ready:',          -- <queue>  ZSET    flows that may be served: <priority>:<chat> -> place in the line
  held = 'held:',            -- <chat>   SET     flows that wait for a run of their chat to end: <queue>:<priority>:<chat>
  turn = 'turn',             --          STRING  counter; gives each job its turn, and a served flow a new place
  bell = 'bell',             --          ZSET    one member while there may be work; popped by a worker that waits
  expiring = 'expiring',     --          ZSET    jobs that must have started: id -> moment by when
  unfinished = 'unfinished:', -- <type>:<chat>  SET  ids of a chat's pending and active jobs
  paused = 'paused',         --          HASH    <queue> or * -> <moment since>|<reason>: nothing starts
  draining = 'draining',     --          HASH    <queue> or * -> <moment since>|<reason>: nothing is taken in
  -- submissions
  idempotency = 'idempotency:', -- <key> STRING  <hash of the body> <id>; forgotten after a day
  fingerprint = 'fingerprint:', -- <fingerprint>  STRING  id; forgotten after a minute
  -- callers
  api_key = 'api_key:',      -- <id>     HASH    fields of access.Key
  api_keys = 'api_keys',     --          ZSET    ids of all keys there ever were -> moment of creation
  rate = 'rate:',            -- <bucket> STRING  moment (microseconds) when the bucket is full again
  tally = 'tally:',          -- <tenant> HASH    <queue>:<status> and <queue>:delayed: jobs; bytes; added, retries, ended_*
  cpu = 'cpu:',              -- <tenant> STRING  moment (ms) when the CPU time it has used is forgotten
  -- runs
  active = 'active:',        -- <queue>  ZSET    jobs under a lease: id -> moment when the lease ends
  running = 'running:',      -- <chat>   SET     ids of a chat's active jobs
  last_chance = 'last_chance', --       SET     ids of active jobs that fail if they lose their worker once more
  workers = 'workers',       --          ZSET    worker -> moment until when it counts as alive
  slots = 'slots',           --          HASH    worker -> how many jobs it runs at once
  worker_facts = 'worker_facts', --      HASH    worker -> what it says of itself, as JSON
  drained = 'drained',       --          SET     workers that are to take no more jobs
  pace = 'pace',             --          HASH    <type> or * -> moving average of a run's ms
  -- schedules
  schedule = 'schedule',     --          HASH    id -> timetable.Schedule as JSON
  schedule_due = 'schedule_due', --      ZSET    id -> moment of the next tick
  -- named functions; a version is made by a job, and then the tree that the job packed
  functions = 'functions',   --          ZSET    names: name -> moment of its first version
  named = 'named:',          -- <name>   HASH    current (version that is called, if any), top (the newest that ever was),
                             --                  last (counter of versions), created_ms, updated_ms
  versions = 'versions:',    -- <name>   ZSET    numbers of its versions: number -> number
  version = 'version:',      -- <name>:<number>  HASH  state (making, ready), created_ms, job, request (JSON), bytes (of
                             --                  the tree), package (JSON)
  functions_bytes = 'functions_bytes', -- STRING what all trees occupy
  -- ends
  ended = 'ended:',          -- <queue>:<status>  ZSET  finished jobs: id -> moment of the end
  dead = 'dead',             --          ZSET    dead letters, jobs that failed by no fault of theirs: id -> number
  dead_number = 'dead_number', --        STRING  counter for it
  kept_bytes = 'kept_bytes', --          STRING  what finished jobs occupy: requests, logs, artifacts
  result = 'result:',        -- <fingerprint>  STRING  id of a job that did this work
  counters = 'counters',     --          HASH    what happened how often
  figures = 'figures',       --          HASH    what metrics count: see metrics.py
  quarantine = 'quarantine', --          LIST    what was broken or forged, newest first, as JSON
  -- webhooks; a delivery's id is <job>-<seq>.<endpoint>
  delivery = 'delivery:',    -- <id>     HASH    fields of events.Delivery and events.News, state, number, tries (JSON)
  delivery_number = 'delivery_number', -- STRING  counter; the order in which deliveries are listed
  stored = 'stored:',        -- <id>     HASH    files of the job that the receiver has stored: path -> its id; for 6 days
  told = 'told:',            -- <job>    SET     ids of the deliveries that are kept of a job
  lanes = 'lanes',           --          SET     endpoints that there ever was something for
  outbox = 'outbox:',        -- <endpoint>  ZSET  deliveries to make: id -> moment when due
  posting = 'posting:',      -- <endpoint>  ZSET  deliveries that are with a sender: id -> moment when its lease ends
  outbox_bell = 'outbox_bell:', -- <endpoint>  ZSET  like bell, for deliveries
  pending = 'pending:',      -- <endpoint>  ZSET  deliveries in outbox or posting: id -> number
  accepted = 'accepted:',    -- <endpoint>  ZSET  deliveries that the receiver has: id -> number
  exhausted = 'exhausted:',  -- <endpoint>  ZSET  deliveries that are not tried any more: id -> number
  endpoint = 'endpoint:',    -- <endpoint>  HASH  last_ms, last_status, last_note, accepted_ms; disabled_ms, disabled_note
  nothing = 'nothing',       --          never exists; see common.lua
}

local function key(name, rest)
  return PREFIX .. KEY[name] .. (rest or '')
end
