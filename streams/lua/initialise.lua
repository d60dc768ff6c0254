-- Creates a partition's meta where there is none. KEYS[1] meta  ARGV[1] number of partitions
-- Answers with the number of partitions that the log has.
if redis.call('HSETNX', KEYS[1], 'partitions', ARGV[1]) == 1 then
  redis.call('HSETNX', KEYS[1], 'epoch', 1)
end
return redis.call('HGET', KEYS[1], 'partitions')
