-- The first entry behind a blocked subject is done: take it out; the next is due now.
-- KEYS[1] lease  KEYS[2] behind  KEYS[3] delayed  KEYS[4] parked  KEYS[5] attempts
-- ARGV[1] lease value ('': a person discards)  ARGV[2] subject  ARGV[3] pos  ARGV[4] now, epoch ms
-- ARGV[5] 'keep': it is parked on its own by now
-- Answers with how many entries still wait; -1 where the lease is not ours, -2 where nothing is parked to discard.
if ARGV[1] ~= '' and redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
if ARGV[1] == '' and redis.call('HEXISTS', KEYS[4], ARGV[3]) == 0 then return -2 end
redis.call('XDEL', KEYS[2], ARGV[3] .. '-0')
if ARGV[5] ~= 'keep' then redis.call('HDEL', KEYS[4], ARGV[3]) end
redis.call('HDEL', KEYS[5], ARGV[3], ARGV[3] .. ':parkings', ARGV[3] .. ':starts')
local left = redis.call('XLEN', KEYS[2])
if left == 0 then
  redis.call('DEL', KEYS[2])
  redis.call('ZREM', KEYS[3], ARGV[2])
else
  redis.call('ZADD', KEYS[3], ARGV[4], ARGV[2])
end
return left
