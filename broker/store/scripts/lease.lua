-- A fenced lease by name: whoever holds it gets the epoch that its writes must carry.
-- ARGV[1]: {name, holder, ms, release}.  Returns the epoch, or 0 when somebody else holds it.
local request = cjson.decode(ARGV[1])
local key = P .. 'lease:' .. request.name
local now = now_ms()
local held = redis.call('HMGET', key, 'holder', 'until', 'epoch')
local live = held[2] and tonumber(held[2]) > now
if request.release then
  if live and held[1] == request.holder then redis.call('HSET', key, 'until', '0') end
  return 0
end
if live and held[1] ~= request.holder then return 0 end
local epoch = held[3] or '0'
if not live then epoch = int(tonumber(epoch) + 1) end
redis.call('HSET', key, 'holder', request.holder, 'until', int(now + request.ms), 'epoch', epoch)
return tonumber(epoch)
