-- A guarded write that ends a job: out of every queue, into the ended ones, dependants are woken.
-- ARGV[1]: {id, guard, change} as in move.lua; change.set.state is the final state.  ARGV[2..4]: decision, spec, tasks.
local request = cjson.decode(ARGV[1])
local job = read_job(request.id)
local why = refusal(job, request.guard)
if why then return why end
if FINAL[job.state] then return 'state' end
finish(job, request.change, now_ms())
return 'ok'
