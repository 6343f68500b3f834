-- Put in front of every script.  The layout of the keys is documented in broker/store/layout.py.
-- Values that only Python reads (attempts, events' data, specs) pass through as opaque strings, because
-- cjson cannot tell an empty list from an empty object.
local P = KEYS[1]

local FINAL = { COMPLETED = true, FAILED = true, CANCELLED = true }

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function int(n) return string.format('%.0f', n) end

local function fields(key)
  local flat, out = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do out[flat[i]] = flat[i + 1] end
  return out
end

local function job_key(id) return P .. 'job:' .. id end

local function read_job(id)
  local job = fields(job_key(id))
  if job.state == nil then return nil end
  job.id = id
  return job
end

-- ---- indexes: one sorted set a project, members <letter>=<value>\0<16 bytes of the id>, all scores 0 ---

-- Of the id's letters to those of base 32 as Lua reads it, which leaves none out.
local BASE_32 = { J = 'I', K = 'J', M = 'K', N = 'L', P = 'M', Q = 'N', R = 'O', S = 'P', T = 'Q', V = 'R',
                  W = 'S', X = 'T', Y = 'U', Z = 'V' }

-- The id as 16 bytes that sort as its 26 letters do; an index entry is a third smaller with it.
local function short(id)
  local text = string.gsub(id, '[J-Z]', BASE_32)
  local function number(from, to) return tonumber(string.sub(text, from, to), 32) end
  return struct.pack('>I1I5I5I5', number(1, 2), number(3, 10), number(11, 18), number(19, 26))
end

local function members(job)
  local id = '\0' .. short(job.id)
  local out = { 's=' .. job.state .. id, 'k=' .. job.kind .. id, 'o=' .. job.owner .. id, 'n=' .. job.name .. id }
  if (job.backend or '') ~= '' then out[#out + 1] = 'b=' .. job.backend .. id end
  if job.labels then
    for name, value in pairs(cjson.decode(job.labels)) do
      out[#out + 1] = 'l=' .. name .. '=' .. value .. id
    end
  end
  return out
end

local function index_key(job) return P .. 'index:' .. job.project end

local function add_to_index(job)
  local flat = {}
  for _, member in ipairs(members(job)) do flat[#flat + 1] = 0; flat[#flat + 1] = member end
  redis.call('ZADD', index_key(job), unpack(flat))
end

local function reindex(job, letter, before, after)
  if before == after then return end
  local id = '\0' .. short(job.id)
  if (before or '') ~= '' then redis.call('ZREM', index_key(job), letter .. '=' .. before .. id) end
  if (after or '') ~= '' then redis.call('ZADD', index_key(job), 0, letter .. '=' .. after .. id) end
end

-- ---- due times: a job stands in one queue at most, named <lane>:<backend> ----------------------------

local function due_key(queue, project) return P .. 'due:' .. queue .. ':' .. project end

local function clear_due(job)
  if (job.queue or '') == '' then return end
  local due = due_key(job.queue, job.project)
  redis.call('ZREM', due, job.id)
  if redis.call('EXISTS', due) == 0 then redis.call('ZREM', P .. 'turns:' .. job.queue, job.project) end
  redis.call('HDEL', job_key(job.id), 'queue')
  job.queue = nil
end

local function set_due(job, queue, at)
  if job.queue ~= queue then
    clear_due(job)
    redis.call('HSET', job_key(job.id), 'queue', queue)
    job.queue = queue
  end
  redis.call('ZADD', due_key(queue, job.project), at, job.id)
  redis.call('ZADD', P .. 'turns:' .. queue, 'NX', 0, job.project)
end

-- ---- events ------------------------------------------------------------------------------------------

local function emit(job, kind, data, now)
  local limits = redis.call('HMGET', P .. 'limits', 'events_kept', 'retention_ms')
  local incarnation = redis.call('HGET', P .. 'meta', 'incarnation') or '1'
  local stream = P .. 'events:' .. job.project
  local id = incarnation .. '-' .. redis.call('HINCRBY', P .. 'sequences', job.project, 1)
  redis.call('XADD', stream, 'MAXLEN', '~', limits[1] or 10000, id,
             'at', int(now), 'type', kind, 'job', job.id, 'data', data or '{}')
  redis.call('PEXPIRE', stream, limits[2] or 2592000000)
  local history = P .. 'history:' .. job.id
  -- What was accepted stands in the job itself.
  local brief = (kind == 'accepted' or not data or data == '{}') and '' or ' ' .. data
  local length = redis.call('RPUSH', history, id .. ' ' .. int(now) .. ' ' .. kind .. brief)
  if length > 100 then redis.call('LTRIM', history, -100, -1) end
end

-- ---- the guarded write: everything that changes about one job, at once ---------------------------------

local function count(name) redis.call('HINCRBY', P .. 'counters', name, 1) end

-- nil when the writer may write; otherwise why not.
local function refusal(job, guard)
  if job == nil then return 'missing' end
  if guard.lease and redis.call('HGET', P .. 'lease:' .. guard.lease[1], 'epoch') ~= guard.lease[2] then
    count('stale_writes'); return 'stale'
  end
  if guard.epoch and job.epoch ~= guard.epoch then count('stale_writes'); return 'stale' end
  if guard.version and job.version ~= guard.version then return 'changed' end
  if guard.live and redis.call('HGET', P .. 'live:' .. guard.live[1], job.id) ~= guard.live[2] then
    return 'changed'
  end
  if guard.below and redis.call('HLEN', P .. 'live:' .. guard.below[1]) >= guard.below[2] then return 'full' end
  for _, edge in ipairs(guard.after or {}) do
    local p = redis.call('HMGET', job_key(edge[1]), 'state', 'attempt', 'cancel')
    if (p[1] ~= 'QUEUED' and p[1] ~= 'RUNNING') or p[2] ~= edge[2] or p[3] then return 'changed' end
  end
  if guard.states then
    for _, state in ipairs(guard.states) do if state == job.state then return nil end end
    return 'state'
  end
  return nil
end

local function put_parts(job, change)
  local id, at = job.id, change.blobs_at or 1
  if change.attempt then redis.call('HSET', P .. 'attempts:' .. id, change.attempt[1], change.attempt[2]) end
  if change.decision then redis.call('HSET', P .. 'decisions:' .. id, change.decision, ARGV[at + 1]) end
  if change.spec then redis.call('SET', P .. 'spec:' .. id, ARGV[at + 2]) end
  if change.tasks then redis.call('SET', P .. 'tasks:' .. id, ARGV[at + 3]) end
  if change.live then redis.call('HSET', P .. 'live:' .. change.live[1], id, change.live[2]) end
  if change.assigned then redis.call('HINCRBY', P .. 'backend:' .. change.assigned, 'assigned', 1) end
  if change.not_live then redis.call('HDEL', P .. 'live:' .. change.not_live, id) end
end

local function put_fields(job, change, now)
  -- A quiet write only postpones: nothing that a reader sees has changed.
  if change.quiet then return end
  local flat = { 'version', int(tonumber(job.version) + 1), 'updated', int(now) }
  for name, value in pairs(change.set or {}) do
    flat[#flat + 1] = name; flat[#flat + 1] = value
  end
  local before_state, before_backend = job.state, job.backend
  redis.call('HSET', job_key(job.id), unpack(flat))
  if change.del and #change.del > 0 then redis.call('HDEL', job_key(job.id), unpack(change.del)) end
  for i = 1, #flat, 2 do job[flat[i]] = flat[i + 1] end
  for _, name in ipairs(change.del or {}) do job[name] = nil end
  reindex(job, 's', before_state, job.state)
  reindex(job, 'b', before_backend, job.backend)
end

local function wake_dependants(job, now)
  if redis.call('EXISTS', P .. 'dependants:' .. job.id) == 1 then
    redis.call('ZADD', P .. 'release', 'NX', now, job.id)
    redis.call('SUNIONSTORE', P .. 'releasing:' .. job.id, P .. 'releasing:' .. job.id, P .. 'dependants:' .. job.id)
  end
end

-- A held job at no backend is due nowhere, whoever writes: a retry, a rejection, a worker that was slower.
local function mind_the_hold(job, change)
  local fields = change.set or {}
  local held = job.held
  if fields.held then held = fields.held end
  for _, name in ipairs(change.del or {}) do if name == 'held' then held = nil end end
  if not held or (fields.state or job.state) ~= 'ACCEPTED' then return end
  change.due, change.no_due = nil, true
  if fields.state then change.set.reason = 'Held' end
end

local function write(job, change, now)
  mind_the_hold(job, change)
  put_fields(job, change, now)
  put_parts(job, change)
  -- Whoever writes gives the claim back, and if it has come somewhere it counts as a try no more.
  if not change.no_progress then redis.call('HDEL', job_key(job.id), 'tries') end
  if not change.keeps_claim then redis.call('HDEL', job_key(job.id), 'lease') end
  if change.due then
    -- The cancel may have come after the writer had taken the job: it knows of nothing but to wait.
    local tasks = job.act and string.find(job.act, 'tasks', 1, true)
    local news = (change.unless_cancelled and job.cancel) or (change.unless_tasks_cancelled and tasks)
    local in_ms = news and 0 or change.due[2]
    set_due(job, change.due[1], now + in_ms)
  elseif change.no_due then
    clear_due(job)
  end
  -- An intent that came while somebody else held the job is acted on as soon as it stands at a backend.
  if (job.cancel or job.act) and (job.state == 'QUEUED' or job.state == 'RUNNING') and not change.due then
    set_due(job, 'act:' .. job.backend, now)
  end
  for _, event in ipairs(change.events or {}) do emit(job, event[1], event[2], now) end
  if change.wake then wake_dependants(job, now) end
  if change.look_again then redis.call('ZADD', P .. 'release', 'NX', now, job.id .. '!') end
end

local PARTS = { 'job:', 'spec:', 'attempts:', 'decisions:', 'history:', 'tasks:' }

local function finish(job, change, now)
  change.set.ended = int(now)
  change.no_due, change.due = true, nil
  change.del = change.del or {}
  for _, name in ipairs({ 'cancel', 'act', 'before', 'waits' }) do change.del[#change.del + 1] = name end
  if (job.backend or '') ~= '' then change.not_live = job.backend end
  write(job, change, now)
  for _, edge in ipairs(job.deps and cjson.decode(job.deps) or {}) do
    redis.call('SREM', P .. 'dependants:' .. edge[1], job.id)
  end
  redis.call('ZADD', P .. 'ended', now, job.id)
  wake_dependants(job, now)
end

-- ---- dependencies --------------------------------------------------------------------------------------

-- The predecessor as far as dependants care: its record, or what is left of it once it is packed.
local function read_predecessor(id)
  local job = redis.call('HMGET', job_key(id), 'state', 'started', 'ready', 'project', 'backend', 'cancel', 'waits')
  if not job[1] then job = redis.call('HMGET', P .. 'packed:' .. id, 'state', 'started', 'ready', 'project') end
  if not job[1] then return nil end
  return { state = job[1], started = job[2], ready = job[3], project = job[4],
           backend = job[5], cancel = job[6], waits = job[7] }
end

local MET = {
  started   = function(p) return p.started or p.state == 'COMPLETED' end,
  succeeded = function(p) return p.state == 'COMPLETED' end,
  failed    = function(p) return p.state == 'FAILED' end,
  ended     = function(p) return FINAL[p.state] end,
  ready     = function(p) return p.ready == '1' and not FINAL[p.state] end,
}

-- 'met', 'never' or 'waits', and the edge that decides it.
local function judge(edges)
  local waits = nil
  for _, edge in ipairs(edges) do
    local p = read_predecessor(edge[1])
    if p == nil then return 'never', edge end
    if not MET[edge[2]](p) then
      if FINAL[p.state] then return 'never', edge end
      waits = waits or edge
    end
  end
  if waits then return 'waits', waits end
  return 'met', nil
end

-- What becomes of a dependant at no backend, as part of a change to it.
local function fail_for(change, edge)
  local message = 'waited for job ' .. edge[1] .. ' to have ' .. edge[2] .. ', which can no longer happen'
  change.set.state, change.set.reason, change.set.message = 'FAILED', 'DependencyFailed', message
  change.set.ended_by = 'broker'
  change.events[#change.events + 1] = { 'failed', '{"reason":"DependencyFailed"}' }
end

local function let_go(job, change)
  change.set.reason, change.set.message, change.set.waits = job.held and 'Held' or nil, nil, nil
  for _, name in ipairs({ 'waits', 'message', not job.held and 'reason' or nil }) do
    change.del[#change.del + 1] = name
  end
  change.no_due, change.due = nil, not job.held and { job.next_queue or 'submit:-', 0 } or nil
  change.events[#change.events + 1] = { 'dependencies_met', '{}' }
end

-- What a backend can wait for itself.  One whose own start still hangs on others may end there unrun and be
-- tried again, which is not its end.
local NATIVE = {
  succeeded = function() return true end,
  ended     = function(p) return not p.waits end,
}

-- The one backend of all that is still to be waited for, if it can do that; nil: the broker has to.
local function home_of(edges, native)
  local home = nil
  for _, edge in ipairs(edges) do
    local p = read_predecessor(edge[1])
    if not MET[edge[2]](p) then
      local there = (p.state == 'QUEUED' or p.state == 'RUNNING') and not p.cancel and p.backend
      if not there or not native[there] or (home and home ~= there) then return nil end
      if not NATIVE[edge[2]] or not NATIVE[edge[2]](p) then return nil end
      home = there
    end
  end
  return home
end
