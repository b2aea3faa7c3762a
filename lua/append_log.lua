-- Keep output of a run. A chunk that is there already (a client's retry) is skipped.
-- ARGV: 1 id, 2 fence, then for each chunk, in order: number of the line after it, chunk (JSON).
-- Returns 'ok', or 'lost' if this run no longer owns the job.
even_when_full()
local job = load(ARGV[1])
if not holds(job, ARGV[2]) then
  return 'lost'
end
local first = tonumber(job.log_lines or 0)
local kept, bytes = first, 0
for i = 3, #ARGV, 2 do
  local end_line = tonumber(ARGV[i])
  if end_line > kept then
    redis.call('XADD', key('log', job.id), ARGV[i] .. '-0', 'chunk', ARGV[i + 1])
    kept, bytes = end_line, bytes + #ARGV[i + 1]
  end
end
if kept > first then
  tell_all(job, 'log', cjson.encode({ first = first, line = kept }))
end
redis.call('HSET', key('job', job.id), 'log_lines', kept)
redis.call('HINCRBY', key('job', job.id), 'bytes', bytes)
return 'ok'
