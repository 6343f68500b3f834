-- A guarded write to one live job.
-- ARGV[1]: {id, guard = {epoch, version, states, lease}, change}; ARGV[2..4]: decision, spec, tasks
-- Returns 'ok' or why not: 'missing', 'stale', 'changed', 'state', 'cancelled'.
local request = cjson.decode(ARGV[1])
local job = read_job(request.id)
local why = refusal(job, request.guard)
if why then return why end
if FINAL[job.state] then return 'state' end
-- Cancel wins over submit as long as the intent to submit is not written.
if job.cancel and request.change.set and request.change.set.state == 'SUBMITTING' then return 'cancelled' end
write(job, request.change, now_ms())
return 'ok'
