-- Reads for a group, only as the owner of the partition: a reply that reaches a former owner would
-- otherwise leave entries pending that nobody handles.
-- KEYS[1] log  KEYS[2] lease  ARGV[1] lease value  ARGV[2] group  ARGV[3] consumer  ARGV[4] count  ARGV[5] '>' or an id
-- Answers {1, entries}, or {0} where the lease is not ours.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return {0} end
local found = redis.call('XREADGROUP', 'GROUP', ARGV[2], ARGV[3], 'COUNT', ARGV[4], 'STREAMS', KEYS[1], ARGV[5])
if not found then return {1, {}} end
return {1, found[1][2]}
