-- A guarded write to one live job.
-- ARGV[1]: {id, guard = {epoch, version, states, lease, below}, change}; ARGV[2..4]: decision, spec, tasks
-- Returns 'ok' or why not: 'missing', 'stale', 'changed', 'state', 'full', 'cancelled'.
local request = cjson.decode(ARGV[1])
local job = read_job(request.id)
local why = refusal(job, request.guard)
if why then return why end
if FINAL[job.state] then return 'state' end
-- Cancel wins over submit as long as the intent to submit is not written.
if job.cancel and request.change.set and request.change.set.state == 'SUBMITTING' then return 'cancelled' end
local change = request.change
if job.cancel and change.set and change.set.state == 'ACCEPTED' then
  -- The attempt is over and the user wanted no other one.
  change.set.state, change.set.reason, change.set.ended_by = 'CANCELLED', 'Cancelled', job.cancel
  change.events[#change.events + 1] = { 'cancelled', '{"reason":"Cancelled"}' }
  finish(job, change, now_ms())
else
  write(job, change, now_ms())
end
return 'ok'
