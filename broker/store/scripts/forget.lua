-- The retention of a packed job is over: it goes, unless a live dependant pins it.
-- ARGV[1]: {id, project, members (of the index), again_at}.  Returns 'ok' or 'pinned' (until again_at).
local request = cjson.decode(ARGV[1])
local id = request.id
if redis.call('EXISTS', P .. 'dependants:' .. id) == 1 or redis.call('EXISTS', P .. 'releasing:' .. id) == 1 then
  redis.call('ZADD', P .. 'packs', request.again_at, id)
  return 'pinned'
end
for _, member in ipairs(request.members) do redis.call('ZREM', P .. 'index:' .. request.project, member) end
redis.call('DEL', P .. 'packed:' .. id)
redis.call('ZREM', P .. 'packs', id)
return 'ok'
