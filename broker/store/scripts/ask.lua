-- A question to the log readers of a backend, if there is one who could answer.
-- ARGV[1]: {backend, role, most, ms}, ARGV[2]: the question.  Returns 'ok', 'nobody' or 'full'.
local request = cjson.decode(ARGV[1])
local there = P .. 'alive:' .. request.role .. ':' .. request.backend
if redis.call('ZCOUNT', there, '(' .. int(now_ms()), '+inf') == 0 then return 'nobody' end
local key = P .. 'asks:' .. request.backend
if redis.call('LLEN', key) >= request.most then return 'full' end
redis.call('RPUSH', key, ARGV[2])
redis.call('PEXPIRE', key, request.ms)
return 'ok'
