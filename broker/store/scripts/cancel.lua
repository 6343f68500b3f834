-- The intent to cancel.  A job that is at no backend ends here; any other is acted on by a worker.
-- ARGV[1]: {id, by, event}.  Returns 'ended' (it is over now), 'asked', 'final' (it was over), 'missing'.
local request = cjson.decode(ARGV[1])
local job = read_job(request.id)
if job == nil then return 'missing' end
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
write(job, { set = { cancel = request.by }, events = { { 'cancel_requested', request.event } } }, now)
return 'asked'
