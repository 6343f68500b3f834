-- The retention of a packed job is over: it goes, unless a live dependant pins it.
-- ARGV[1]: {job (its record as it was packed), again_at}.  Returns 'ok' or 'pinned' (until again_at).
local request = cjson.decode(ARGV[1])
local job = request.job
local id = job.id
if redis.call('EXISTS', P .. 'dependants:' .. id) == 1 or redis.call('EXISTS', P .. 'releasing:' .. id) == 1 then
  redis.call('ZADD', P .. 'packs', request.again_at, id)
  return 'pinned'
end
for _, member in ipairs(members(job)) do redis.call('ZREM', index_key(job), member) end
redis.call('DEL', P .. 'packed:' .. id)
redis.call('ZREM', P .. 'packs', id)
return 'ok'
