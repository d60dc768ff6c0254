-- How many partitions a topic has; creates it where it is not there.
-- KEYS[1] meta of partition 00  ARGV[1] partitions of a new topic ('': do not create)
-- Answers {partitions, 1 where it is the log of events}; {0, 0} where there is none.
local stored = redis.call('HGET', KEYS[1], 'partitions')
if not stored then
  if ARGV[1] == '' then return {0, 0} end
  redis.call('HSET', KEYS[1], 'partitions', ARGV[1])
  stored = ARGV[1]
end
return {tonumber(stored), redis.call('HEXISTS', KEYS[1], 'epoch')}
