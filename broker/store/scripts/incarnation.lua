-- A restart (another run_id) of a server that may have lost writes begins a new incarnation.
-- ARGV[1]: {run_id, durable, anyhow}.  Returns 1 when one has just begun.
local request = cjson.decode(ARGV[1])
local key = P .. 'meta'
local known = redis.call('HMGET', key, 'run_id', 'incarnation')
if known[1] == request.run_id and not request.anyhow then return 0 end
redis.call('HSET', key, 'run_id', request.run_id)
if not known[2] then
  -- The time, in seconds: later than every incarnation of a store that was here and was lost.
  local first = int(now_ms() / 1000)
  redis.call('HSET', key, 'incarnation', first, 'first_incarnation', first, 'incarnation_began', '0')
  return 1
end
if request.durable and not request.anyhow then return 0 end
redis.call('HINCRBY', key, 'incarnation', 1)
redis.call('HSET', key, 'incarnation_began', int(now_ms()))
return 1
