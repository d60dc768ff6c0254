-- Sets an entry aside for its group and acknowledges it, in one step, with its full body.
-- KEYS[1] log  KEYS[2] lease  KEYS[3] behind  KEYS[4] delayed  KEYS[5] parked  KEYS[6] attempts
-- ARGV[1] lease value  ARGV[2] group  ARGV[3] pos  ARGV[4] subject  ARGV[5] 'delay' | 'park' | 'behind'
-- ARGV[6] due, epoch ms (delay)  ARGV[7] JSON (park)  ARGV[8] attempts so far  ARGV[9…] the entry's fields and values
-- Answers 1; 0 where nothing blocks the subject any more ('behind'); -1 where the lease is not ours.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return -1 end
local id = ARGV[3] .. '-0'
if ARGV[5] == 'behind' and redis.call('EXISTS', KEYS[3]) == 0 then return 0 end
if #redis.call('XRANGE', KEYS[3], id, id) == 0 then
  local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
  local later = {}
  if last and tonumber(string.match(last[1], '^(%d+)')) > tonumber(ARGV[3]) then
    -- Somebody set the group back by hand: put it in its place. A full Redis refuses here, before anything is taken out.
    redis.call('ZADD', KEYS[4], 'XX', 0, '')
    later = redis.call('XRANGE', KEYS[3], id, '+')
    local before = redis.call('XRANGE', KEYS[3], '-', id)
    redis.call('DEL', KEYS[3])
    for _, entry in ipairs(before) do redis.call('XADD', KEYS[3], entry[1], unpack(entry[2])) end
  end
  redis.call('XADD', KEYS[3], id, unpack(ARGV, 9))
  for _, entry in ipairs(later) do redis.call('XADD', KEYS[3], entry[1], unpack(entry[2])) end
end
if ARGV[5] == 'delay' then
  redis.call('ZADD', KEYS[4], ARGV[6], ARGV[4])
  redis.call('HSET', KEYS[6], ARGV[3], ARGV[8])
elseif ARGV[5] == 'park' then
  redis.call('ZREM', KEYS[4], ARGV[4])
  redis.call('HSET', KEYS[5], ARGV[3], ARGV[7])
  redis.call('HDEL', KEYS[6], ARGV[3])
end
redis.call('XACK', KEYS[1], ARGV[2], id)
return 1
