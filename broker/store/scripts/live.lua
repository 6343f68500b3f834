-- One entry of live:<backend>, changed only while it is what the observer has read.
-- ARGV[1]: {backend, id, before, after}; without ``after`` it goes.  Returns 1 when it was changed.
local request = cjson.decode(ARGV[1])
local key = P .. 'live:' .. request.backend
if redis.call('HGET', key, request.id) ~= request.before then return 0 end
if request.after then
  redis.call('HSET', key, request.id, request.after)
else
  redis.call('HDEL', key, request.id)
end
return 1
