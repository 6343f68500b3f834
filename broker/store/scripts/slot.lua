-- One of a few places.  ARGV[1]: {name, holder, cap, ms}.  Returns 1 when the holder has one now.
local request = cjson.decode(ARGV[1])
local key = P .. 'slots:' .. request.name
local now = now_ms()
redis.call('ZREMRANGEBYSCORE', key, '-inf', int(now))
if not redis.call('ZSCORE', key, request.holder) and redis.call('ZCARD', key) >= request.cap then return 0 end
redis.call('ZADD', key, now + request.ms, request.holder)
redis.call('PEXPIRE', key, request.ms * 2)
return 1
