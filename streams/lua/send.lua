-- Appends a producer's next messages to one partition of a topic, once: a repeat of the last batch is told where it stands.
-- KEYS[1] log  KEYS[2] what is known of the producer: `<number of its last message> <position of that one>`
-- ARGV[1] number of the first message  ARGV[2] how many  ARGV[3] seconds to remember the producer for
--   then for each message: 2n, and n pairs of fields
-- Answers with the position of the first.
local first, count = tonumber(ARGV[1]), tonumber(ARGV[2])
local known = redis.call('GET', KEYS[2])
if known then
  local last, at = string.match(known, '(%d+) (%d+)')
  if tonumber(last) >= first + count - 1 then return tonumber(at) - count + 1 end
end
local pos = 0
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then pos = tonumber(string.match(info[i + 1], '^(%d+)')) end
  end
end
local a = 4
for i = 1, count do
  local n = tonumber(ARGV[a])
  redis.call('XADD', KEYS[1], string.format('%.0f', pos + i) .. '-0', unpack(ARGV, a + 1, a + n))
  a = a + n + 1
end
redis.call('SET', KEYS[2], string.format('%.0f %.0f', first + count - 1, pos + count), 'EX', ARGV[3])
return pos + 1
