-- A person wants a parked entry tried again.
-- KEYS[1] delayed  KEYS[2] parked  KEYS[3] attempts  ARGV[1] subject  ARGV[2] pos  ARGV[3] now, epoch ms
-- Answers 1, or 0 where it is not parked.
if redis.call('HDEL', KEYS[2], ARGV[2]) == 0 then return 0 end
redis.call('HDEL', KEYS[3], ARGV[2], ARGV[2] .. ':starts')
redis.call('HINCRBY', KEYS[3], ARGV[2] .. ':parkings', 1)
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
return 1
