-- KEYS[1] lease  ARGV[1] its value  ARGV[2] ttl, ms (0: release). Answers 1 where the lease is still ours.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
