-- The intent to cancel.  A job that is at no backend ends here; any other is acted on by a worker.
-- ARGV[1]: {id, by, event, version}: with a version only while the job has it.
-- Returns 'ended' (it is over now), 'asked', 'final' (it was over), 'missing', 'changed'.
local request = cjson.decode(ARGV[1])
local job = read_job(request.id)
if job == nil then return 'missing' end
if request.version and job.version ~= request.version then return 'changed' end
if FINAL[job.state] then return 'final' end
local now = now_ms()
if job.state == 'ACCEPTED' then
  -- The epoch rises so that a worker that holds the job is refused when it writes.
  local epoch = int(tonumber(job.epoch) + 1)
  finish(job, { set = { state = 'CANCELLED', reason = 'Cancelled', ended_by = request.by, epoch = epoch },
                del = { 'message' }, events = { { 'cancelled', request.event } } }, now)
  return 'ended'
end
if job.cancel then return 'asked' end
write(job, { set = { cancel = request.by }, keeps_claim = true,
             events = { { 'cancel_requested', request.event } } }, now)
-- A worker that is at it sees the intent when it writes; nobody else would look before the next look-up is due.
if job.state == 'SUBMITTING' and tonumber(job.lease or 0) <= now then set_due(job, 'act:' .. job.backend, now) end
return 'asked'
