-- Renews a partition's lease, or takes it anew where it ran out and nobody else has had it since.
-- KEYS[1] lease  KEYS[2] meta  ARGV[1] its value  ARGV[2] ttl, ms  ARGV[3] group
-- Answers with the lease's value, under the next token where it was taken anew; nothing where it is another's.
local held = redis.call('GET', KEYS[1])
if held == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return held
end
if held then return false end
local field = 'token:' .. ARGV[3]
local member, token = string.match(ARGV[1], '^(.*) (%d+)$')
if redis.call('HGET', KEYS[2], field) ~= token then return false end
local value = member .. ' ' .. (tonumber(token) + 1)
redis.call('HSET', KEYS[2], field, tonumber(token) + 1)
redis.call('SET', KEYS[1], value, 'PX', ARGV[2])
return value
