-- A job from a dump, or from what a backend knows, put where it stood; one that is here already is left alone.
-- ARGV[1]: {id, set, deps, attempts, decisions, history, live, due, n_tasks}; ARGV[2]: spec, [3]: tasks,
-- then the decisions in the order of request.decisions.  Returns 'ok' or 'exists'.
local request = cjson.decode(ARGV[1])
local id = request.id
if redis.call('EXISTS', job_key(id)) == 1 or redis.call('EXISTS', P .. 'packed:' .. id) == 1 then return 'exists' end
local now = now_ms()

local flat = {}
for name, value in pairs(request.set) do flat[#flat + 1] = name; flat[#flat + 1] = value end
redis.call('HSET', job_key(id), unpack(flat))
redis.call('SET', P .. 'spec:' .. id, ARGV[2])
if request.has_tasks then redis.call('SET', P .. 'tasks:' .. id, ARGV[3]) end
for number, text in pairs(request.attempts) do redis.call('HSET', P .. 'attempts:' .. id, number, text) end
for i, number in ipairs(request.decisions) do
  redis.call('HSET', P .. 'decisions:' .. id, number, ARGV[3 + i])
end
for _, line in ipairs(request.history) do redis.call('RPUSH', P .. 'history:' .. id, line) end

local job = read_job(id)
add_to_index(job)
if FINAL[job.state] then
  redis.call('ZADD', P .. 'ended', job.ended, id)
else
  for _, edge in ipairs(request.deps) do redis.call('SADD', P .. 'dependants:' .. edge[1], id) end
  if job.waits then redis.call('ZADD', P .. 'release', 'NX', now, id .. '!') end
  if request.live then redis.call('HSET', P .. 'live:' .. request.live[1], id, request.live[2]) end
  if request.due then set_due(job, request.due, now) end
end
emit(job, 'restored', '{}', now)
return 'ok'
