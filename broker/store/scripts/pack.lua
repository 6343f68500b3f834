-- An ended job becomes one packed value; its parts go.  ARGV[1]: {id, version}; ARGV[2]: the packed job.
-- Returns 'ok', 'missing' or 'changed'.
local request = cjson.decode(ARGV[1])
local job = read_job(request.id)
if job == nil then redis.call('ZREM', P .. 'ended', request.id); return 'missing' end
if job.version ~= request.version or not FINAL[job.state] then return 'changed' end
local key = P .. 'packed:' .. request.id
redis.call('HSET', key, 'v', '1', 'state', job.state, 'project', job.project, 'owner', job.owner, 'blob', ARGV[2])
if job.started then redis.call('HSET', key, 'started', job.started) end
for _, part in ipairs(PARTS) do redis.call('DEL', P .. part .. request.id) end
redis.call('ZADD', P .. 'packs', job.ended, request.id)
redis.call('ZREM', P .. 'ended', request.id)
return 'ok'
