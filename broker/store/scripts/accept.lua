-- One job or a bundle, whole or not at all.
-- ARGV[1]: {hint_ms, jobs = [{id, set, deps, queue, event}], idempotency = {key, digest, ttl_ms},
--           unchanged = {id, version}: accept only while this job has this version}
-- ARGV[2 ...]: the packed spec and the packed decision of each job, in turn.
-- Returns {'ok', now, whether each waits ('1') ..., hints to publish ...} | {'replay', id ...} | {'conflict'} | {'no_such_job', id} |
-- {'changed'}
local request = cjson.decode(ARGV[1])
local now = now_ms()

if request.idempotency then
  local seen = redis.call('HMGET', P .. 'idempotency:' .. request.idempotency.key, 'digest', 'ids')
  if seen[1] then
    if seen[1] ~= request.idempotency.digest then return { 'conflict' } end
    local answer = { 'replay' }
    for id in string.gmatch(seen[2], '%S+') do answer[#answer + 1] = id end
    return answer
  end
end

-- A request whose answer was lost on the way to us is sent again with its ids: what was done is not done twice.
local first = request.jobs[1].id
if redis.call('EXISTS', job_key(first), P .. 'packed:' .. first) > 0 then
  local answer = { 'ok', redis.call('HGET', job_key(first), 'created') or int(now) }
  for _, new in ipairs(request.jobs) do
    answer[#answer + 1] = redis.call('HGET', job_key(new.id), 'waits') or '0'
  end
  return answer
end

-- After the key: what was answered once is answered again, whatever has become of the other job since.
if request.unchanged then
  local job = read_job(request.unchanged[1])
  if job == nil or job.version ~= request.unchanged[2] then return { 'changed' } end
end

local ours, ids = {}, {}
for _, new in ipairs(request.jobs) do ours[new.id] = true; ids[#ids + 1] = new.id end
for _, new in ipairs(request.jobs) do
  for _, edge in ipairs(new.deps or {}) do
    if not ours[edge[1]] then
      local p = read_predecessor(edge[1])
      if p == nil or p.project ~= new.set.project then return { 'no_such_job', edge[1] } end
    end
  end
end

for i, new in ipairs(request.jobs) do
  local flat = { 'v', '1', 'version', '1', 'epoch', '0', 'created', int(now), 'updated', int(now),
                 'next_queue', new.queue }
  -- With no predecessor to wait for it goes to its queue below; that is written with the rest.
  if not new.deps and not new.set.held then new.set.queue = new.queue end
  for name, value in pairs(new.set) do flat[#flat + 1] = name; flat[#flat + 1] = value end
  if new.deps then flat[#flat + 1] = 'deps'; flat[#flat + 1] = cjson.encode(new.deps) end
  redis.call('HSET', job_key(new.id), unpack(flat))
  redis.call('SET', P .. 'spec:' .. new.id, ARGV[2 * i])
  redis.call('HSET', P .. 'decisions:' .. new.id, '0', ARGV[2 * i + 1])
end

local waits, hints = {}, {}
for _, new in ipairs(request.jobs) do
  local job = new.set
  job.id = new.id
  for _, edge in ipairs(new.deps or {}) do redis.call('SADD', P .. 'dependants:' .. edge[1], new.id) end
  add_to_index(job)
  emit(job, 'accepted', new.event, now)
  local verdict = judge(new.deps or {})
  waits[#waits + 1] = verdict == 'met' and '0' or '1'
  if verdict == 'met' then
    if not job.held then
      set_due(job, new.queue, now)
      hints['drain:' .. string.match(new.queue, ':(.*)')] = true
    end
  else
    redis.call('HSET', job_key(new.id), 'waits', '1')
    if not job.held then redis.call('HSET', job_key(new.id), 'reason', 'DependencyNotMet') end
    if verdict == 'never' or job.natively then
      redis.call('ZADD', P .. 'release', 'NX', now, new.id .. '!')
    end
  end
end

if request.idempotency then
  local key = P .. 'idempotency:' .. request.idempotency.key
  redis.call('HSET', key, 'digest', request.idempotency.digest, 'ids', table.concat(ids, ' '),
             'waits', table.concat(waits, ' '), 'at', int(now))
  -- As they were sent and placed: whatever becomes of a job, it is answered as it was.
  for i, id in ipairs(ids) do redis.call('HSET', key, 'spec:' .. id, ARGV[2 * i], 'decision:' .. id, ARGV[2 * i + 1]) end
  redis.call('PEXPIRE', key, request.idempotency.ttl_ms)
end
-- One message wakes a worker for all jobs of a queue: none is sent while one is outstanding.
local answer = { 'ok', int(now) }
for _, flag in ipairs(waits) do answer[#answer + 1] = flag end
for name in pairs(hints) do
  if redis.call('SET', P .. 'hint:' .. name, '1', 'NX', 'PX', request.hint_ms) then answer[#answer + 1] = name end
end
return answer
