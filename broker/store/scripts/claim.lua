-- Take what is due in one queue: each job gets a lease and a new epoch, and becomes due again when the
-- lease is over, so a worker that dies gives it back by doing nothing.  Projects take turns.
-- ARGV[1]: {queue, limit, lease_ms, backend, per_s}
-- Returns a list of {id, epoch, fields ..., spec, attempt}; see broker/store/jobs.py.
local request = cjson.decode(ARGV[1])
local now = now_ms()
local limit = request.limit

local backend = P .. 'backend:' .. request.backend
if request.per_s then
  local bucket = redis.call('HMGET', backend, 'tokens', 'tokens_at')
  local capacity = math.max(1, request.per_s)  -- half a job a second is one job every two seconds
  local tokens = tonumber(bucket[1] or capacity)
  tokens = math.min(capacity, tokens + (now - tonumber(bucket[2] or now)) * request.per_s / 1000)
  limit = math.min(limit, math.floor(tokens))
  redis.call('HSET', backend, 'tokens', tostring(tokens), 'tokens_at', int(now))
end

local claimed = {}
local turns = P .. 'turns:' .. request.queue
local projects = redis.call('ZRANGE', turns, 0, -1)
-- Turns are numbers, not times: two claims of one millisecond would both go to the same project.
local turn = tonumber(redis.call('ZRANGE', turns, -1, -1, 'WITHSCORES')[2] or 0)
while #claimed < limit and #projects > 0 do
  local waiting = {}
  for _, project in ipairs(projects) do
    local due = due_key(request.queue, project)
    local id = #claimed < limit and redis.call('ZRANGE', due, '-inf', int(now), 'BYSCORE', 'LIMIT', 0, 1)[1]
    if id then
      local key = job_key(id)
      if redis.call('EXISTS', key) == 0 then
        redis.call('ZREM', due, id)
      else
        local epoch = redis.call('HINCRBY', key, 'epoch', 1)
        redis.call('HINCRBY', key, 'tries', 1)
        redis.call('HSET', key, 'lease', int(now + request.lease_ms))
        redis.call('ZADD', due, now + request.lease_ms, id)
        turn = turn + 1
        redis.call('ZADD', turns, turn, project)
        local n = redis.call('HGET', key, 'attempt')
        claimed[#claimed + 1] = { id, redis.call('HGETALL', key), redis.call('GET', P .. 'spec:' .. id),
                                  n and redis.call('HGET', P .. 'attempts:' .. id, n) or false }
      end
      waiting[#waiting + 1] = project
    elseif redis.call('ZCARD', due) == 0 then
      redis.call('ZREM', turns, project)
    end
  end
  projects = waiting
end
if request.per_s and #claimed > 0 then redis.call('HINCRBYFLOAT', backend, 'tokens', -#claimed) end
return claimed
