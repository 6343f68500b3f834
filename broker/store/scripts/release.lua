-- Level-triggered, a chunk at a time: jobs that waited for another one are judged anew.
-- ARGV[1]: {limit, fail_event}.  Returns {looked at, queue ...}: the queues that got work.
local request = cjson.decode(ARGV[1])
local now = now_ms()
local looked_at, queues = 0, {}

local function look_again(id)
  local job = read_job(id)
  if job == nil or FINAL[job.state] or not job.waits then return end
  local verdict, edge = judge(cjson.decode(job.deps))
  if verdict == 'never' then
    local message = 'waited for job ' .. edge[1] .. ' to have ' .. edge[2] .. ', which can no longer happen'
    finish(job, { set = { state = 'FAILED', reason = 'DependencyFailed', message = message, ended_by = 'broker' },
                  del = { 'waits' }, events = { { 'failed', request.fail_event } } }, now)
  elseif verdict == 'met' then
    local change = { set = {}, del = { 'waits' }, events = { { 'dependencies_met', '{}' } } }
    if job.held then
      change.set.reason = 'Held'
    else
      change.del[2] = 'reason'
      change.due = { job.next_queue, 0 }
      queues[job.next_queue] = true
    end
    write(job, change, now)
  end
end

for _, predecessor in ipairs(redis.call('ZRANGE', P .. 'release', 0, 9)) do
  if string.sub(predecessor, -1) == '!' then
    redis.call('ZREM', P .. 'release', predecessor)
    looked_at = looked_at + 1
    look_again(string.sub(predecessor, 1, -2))
  else
    while looked_at < request.limit do
      local id = redis.call('SPOP', P .. 'releasing:' .. predecessor)
      if not id then redis.call('ZREM', P .. 'release', predecessor); break end
      looked_at = looked_at + 1
      look_again(id)
    end
  end
  if looked_at >= request.limit then break end
end

local answer = { looked_at }
for queue in pairs(queues) do answer[#answer + 1] = queue end
return answer
