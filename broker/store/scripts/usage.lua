-- What became known of an attempt's usage.  It is no change of the job: its version stays.
-- ARGV[1]: {id, number, was, now}: the attempt as it was read, and as it is to be.  Returns 1, or 0: it has changed.
local request = cjson.decode(ARGV[1])
local key = P .. 'attempts:' .. request.id
if redis.call('HGET', key, request.number) ~= request.was then return 0 end
redis.call('HSET', key, request.number, request.now)
return 1
