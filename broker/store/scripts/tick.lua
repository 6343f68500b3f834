-- What is overdue, for each backend: the answer of one look at every queue.
-- ARGV[1]: {backends, others, hint_ms, retention_ms}.  Marks each answer as hinted, so that at most one hint
-- is outstanding.
-- Returns a list of 'drain:<backend>', 'observe:<backend>', 'refresh:<backend>', 'keep:<backend>', 'release',
-- 'forget'.
local request = cjson.decode(ARGV[1])
local now = now_ms()
local hints = {}

local function hint(name)
  if redis.call('SET', P .. 'hint:' .. name, '1', 'NX', 'PX', request.hint_ms) then hints[#hints + 1] = name end
end

local function overdue(queue)
  for _, project in ipairs(redis.call('ZRANGE', P .. 'turns:' .. queue, 0, -1)) do
    if redis.call('ZCOUNT', due_key(queue, project), '-inf', int(now)) > 0 then return true end
  end
  return false
end

for _, backend in ipairs(request.backends) do
  local known = redis.call('HMGET', P .. 'backend:' .. backend,
                           'not_before', 'observe_at', 'refresh_at', 'watched_until', 'observe_watched_at')
  local open = tonumber(known[1] or 0) <= now
  -- The submit lane is never closed: its jobs are decided anew, and go elsewhere or say why they wait.
  if overdue('submit:' .. backend) or (open and overdue('act:' .. backend)) then hint('drain:' .. backend) end
  local observe_at = tonumber(known[2] or 0)
  -- While a watch tells what changes a pass can wait, unless somebody has asked for one (0).
  if observe_at > 0 and tonumber(known[4] or 0) > now then
    observe_at = math.max(observe_at, tonumber(known[5] or 0))
  end
  if observe_at <= now and redis.call('EXISTS', P .. 'live:' .. backend) == 1 then
    hint('observe:' .. backend)
  end
  if tonumber(known[3] or 0) <= now then hint('refresh:' .. backend) end
  if open and redis.call('ZCOUNT', P .. 'keeps:' .. backend, '-inf', int(now)) > 0 then hint('keep:' .. backend) end
end
-- Queues of no backend, and of those that left the configuration.
for _, name in ipairs(request.others) do
  if overdue('submit:' .. name) then hint('drain:' .. name) end
end
local oldest = redis.call('ZRANGE', P .. 'packs', 0, 0, 'WITHSCORES')
if oldest[2] and tonumber(oldest[2]) <= now - request.retention_ms then hint('forget') end
if redis.call('EXISTS', P .. 'release') == 1 then hint('release') end
return hints
