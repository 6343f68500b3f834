-- Guarded writes to live jobs, each on its own: one that is refused keeps none of the others from being made.
-- ARGV[1]: {moves = [{id, guard = {epoch, version, states, lease, live, below}, change}]}; ARGV[2 ...]: the decision,
-- the spec and the tasks of each, in turn.
-- Returns for each 'ok' or why not: 'missing', 'stale', 'changed', 'state', 'full', 'cancelled'.
local function move(id, guard, change)
  local job = read_job(id)
  local why = refusal(job, guard)
  if why then return why end
  if FINAL[job.state] then return 'state' end
  -- One of many may have failed since: then it is not for those that are left to let the job start.
  if guard.after and judge(cjson.decode(job.deps)) ~= 'waits' then return 'changed' end
  -- Cancel wins over submit as long as the intent to submit is not written.
  if job.cancel and change.set and change.set.state == 'SUBMITTING' then return 'cancelled' end
  local now = now_ms()
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
end

local answers = {}
for i, one in ipairs(cjson.decode(ARGV[1]).moves) do
  one.change.blobs_at = 3 * i - 2
  answers[i] = move(one.id, one.guard, one.change)
end
return answers
