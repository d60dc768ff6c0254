-- Gives a partition's lease back, where it is still ours. KEYS[1] lease  ARGV[1] its value
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
