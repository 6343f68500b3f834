-- What is overdue, for each backend: the answer of one look at every queue.
-- ARGV[1]: {backends, hint_ms}.  Marks each answer as hinted, so that at most one hint is outstanding.
-- Returns a list of 'drain:<backend>', 'observe:<backend>', 'refresh:<backend>', 'release'.
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
  local known = redis.call('HMGET', P .. 'backend:' .. backend, 'paused', 'not_before', 'observe_at', 'refresh_at')
  local open = tonumber(known[2] or 0) <= now
  if open and (overdue('act:' .. backend) or (not known[1] and overdue('submit:' .. backend))) then
    hint('drain:' .. backend)
  end
  if backend ~= '-' then
    if tonumber(known[3] or 0) <= now and redis.call('EXISTS', P .. 'live:' .. backend) == 1 then
      hint('observe:' .. backend)
    end
    if tonumber(known[4] or 0) <= now then hint('refresh:' .. backend) end
  end
end
if redis.call('EXISTS', P .. 'release') == 1 then hint('release') end
return hints
