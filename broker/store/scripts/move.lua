-- A guarded write to one live job.
-- ARGV[1]: {id, guard = {epoch, version, states, lease, live, below}, change}; ARGV[2..4]: decision, spec, tasks
-- Returns 'ok' or why not: 'missing', 'stale', 'changed', 'state', 'full', 'cancelled'.
local request = cjson.decode(ARGV[1])
local job = read_job(request.id)
local why = refusal(job, request.guard)
if why then return why end
if FINAL[job.state] then return 'state' end
-- One of many may have failed since: then it is not for those that are left to let the job start.
if request.guard.after and judge(cjson.decode(job.deps)) ~= 'waits' then return 'changed' end
-- Cancel wins over submit as long as the intent to submit is not written.
if job.cancel and request.change.set and request.change.set.state == 'SUBMITTING' then return 'cancelled' end
local change, now = request.change, now_ms()
if job.cancel and change.set and change.set.state == 'ACCEPTED' then
  -- The attempt is over and the user wanted no other one.
  change.set.state, change.set.reason, change.set.ended_by = 'CANCELLED', 'Cancelled', job.cancel
  if change.judged then change.set.message = nil end
  change.events[#change.events + 1] = { 'cancelled', '{"reason":"Cancelled"}' }
  finish(job, change, now)
elseif change.judged then
  local verdict, edge = judge(cjson.decode(job.deps))
  change.set.waits = '1'
  if verdict == 'met' then let_go(job, change) end
  if verdict == 'never' then
    fail_for(change, edge)
    finish(job, change, now)
  else
    write(job, change, now)
  end
else
  write(job, change, now)
end
return 'ok'
