-- Level-triggered, a chunk at a time: jobs that waited for another one are judged anew.
-- ARGV[1]: {limit, native = {backend = true}: those that can wait for a predecessor themselves, late_ms}.
-- Returns {looked at, queue ...}: the queues that got work.
local request = cjson.decode(ARGV[1])
local now = now_ms()
local looked_at, queues = 0, {}

local function is_due(job, queue, in_ms)
  set_due(job, queue, now + in_ms)
  queues[queue] = true
end

-- Its backend waits for the predecessors itself, and should find the same.  If it does not, a worker asks for
-- the job back: at once where it must not start, or when it has had time to see that it may.
local function look_there(job, verdict)
  if verdict == 'met' then
    write(job, { set = {}, del = { 'waits' }, events = { { 'dependencies_met', '{}' } },
                 keeps_claim = true, no_progress = true }, now)
    if job.state == 'QUEUED' and not job.queue then set_due(job, 'act:' .. job.backend, now + request.late_ms) end
  elseif verdict == 'never' and job.state == 'QUEUED' then
    is_due(job, 'act:' .. job.backend, 0)
  end
end

local function look_here(job, edges, verdict, edge)
  local change = { set = {}, del = {}, events = {} }
  if verdict == 'never' then
    fail_for(change, edge)
    finish(job, change, now)
  elseif verdict == 'met' then
    let_go(job, change)
    if change.due then queues[change.due[1]] = true end
    write(job, change, now)
  elseif job.natively and not job.held and not job.queue then
    local home = home_of(edges, request.native)
    if home then is_due(job, 'submit:' .. home, 0) end
  end
end

local function look_again(id)
  local job = read_job(id)
  if job == nil or FINAL[job.state] or not job.waits then return end
  local edges = cjson.decode(job.deps)
  local verdict, edge = judge(edges)
  if job.state == 'ACCEPTED' then look_here(job, edges, verdict, edge) else look_there(job, verdict) end
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
