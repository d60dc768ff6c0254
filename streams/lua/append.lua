-- Appends a batch of events to one partition, atomically.
--
-- KEYS[1] log  KEYS[2] meta, then for each event: its subject's hash, its subject's seen, its lease key (or meta)
-- ARGV[1] number of partitions, then for each event:
--   id, type, subject, time, source, cause, corr, sv, data, expected (-1: any), fence value ('': none), n,
--   and n pairs of checkpoint fields
-- Answers for each event {status, pos, ver}: 0 appended, 1 duplicate (the original's pos and ver),
--   2 conflict (ver: the subject's version), 3 fenced.
local call = redis.call
local function last_position()
  local info = call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return tonumber(string.match(info[i + 1], '^(%d+)')) end
  end
end
local answers = {}
local stored = call('HGET', KEYS[2], 'partitions')
if stored ~= ARGV[1] then return redis.error_reply('PARTITIONS ' .. (stored or 'none')) end
-- The next position: one beyond the last entry, whoever put it there.
local pos = 0
if call('EXISTS', KEYS[1]) == 1 then pos = last_position() end
-- Above this Lua's numbers have gaps: no next position could be named.
if pos >= 9007199254740991 then return redis.error_reply('POSITION ' .. string.format('%.0f', pos)) end
local a, k = 2, 3
while a <= #ARGV do
  local id, expected, fence, n = ARGV[a], tonumber(ARGV[a + 9]), ARGV[a + 10], tonumber(ARGV[a + 11])
  local subject, seen, lease = KEYS[k], KEYS[k + 1], KEYS[k + 2]
  local before = call('HGET', seen, id)
  if before then
    local p, v = string.match(before, '(%d+) (%d+)')
    answers[#answers + 1] = {1, tonumber(p), tonumber(v)}
  elseif fence ~= '' and call('GET', lease) ~= fence then
    answers[#answers + 1] = {3, 0, 0}
  else
    local ver = expected >= 0 and tonumber(call('HGET', subject, 'ver') or '0')
    if ver and expected ~= ver then
      answers[#answers + 1] = {2, 0, ver}
    else
      ver, pos = call('HINCRBY', subject, 'ver', 1), pos + 1
      local at = string.format('%.0f', pos)
      call('XADD', KEYS[1], at .. '-0', 'id', id, 'type', ARGV[a + 1], 'subject', ARGV[a + 2],
        'ver', ver, 'time', ARGV[a + 3], 'source', ARGV[a + 4], 'cause', ARGV[a + 5], 'corr', ARGV[a + 6],
        'sv', ARGV[a + 7], 'data', ARGV[a + 8])
      if n > 0 then call('HSET', subject, unpack(ARGV, a + 12, a + 11 + 2 * n)) end
      call('HSET', seen, id, at .. ' ' .. ver)
      answers[#answers + 1] = {0, pos, ver}
    end
  end
  a, k = a + 12 + 2 * n, k + 3
end
return answers
