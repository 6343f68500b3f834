-- The retention of a packed job is over: it goes, unless a live dependant pins it.
-- ARGV[1]: {id, index members ...}.  Returns 'ok' or 'pinned'.
local request = cjson.decode(ARGV[1])
local id = request.id
if redis.call('EXISTS', P .. 'dependants:' .. id) == 1 then return 'pinned' end
if redis.call('EXISTS', P .. 'releasing:' .. id) == 1 then return 'pinned' end
for _, member in ipairs(request.members) do redis.call('ZREM', P .. 'index:' .. request.project, member) end
redis.call('DEL', P .. 'packed:' .. id)
redis.call('ZREM', P .. 'packs', id)
return 'ok'
