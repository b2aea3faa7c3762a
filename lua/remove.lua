-- Forget a finished job: record, request, log, webhook, and its place in all indexes.
-- ARGV: 1 id.
-- Returns 'ok', 'missing', or the status of a job that is not finished.
even_when_full()
local job = load(ARGV[1])
if not job then
  return 'missing'
elseif not FINAL[job.status] then
  return job.status
end
forget(job)
count('removed')
return 'ok'
