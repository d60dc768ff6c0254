-- Takes a partition's lease where it is free, or held by an earlier life of the same member.
-- KEYS[1] lease  KEYS[2] meta  ARGV[1] member  ARGV[2] group  ARGV[3] highest token known  ARGV[4] ttl, ms
-- Answers with the lease's new value `<member> <token>`, or nothing.
local held = redis.call('GET', KEYS[1])
if held and string.match(held, '^(.*) %d+$') ~= ARGV[1] then return false end
local field = 'token:' .. ARGV[2]
local token = math.max(tonumber(redis.call('HGET', KEYS[2], field) or '0'), tonumber(ARGV[3])) + 1
redis.call('HSET', KEYS[2], field, token)
local value = ARGV[1] .. ' ' .. token
redis.call('SET', KEYS[1], value, 'PX', ARGV[4])
return value
