-- Grants the lease of a blob unless another one has it.
-- KEYS: the blob, its lease. ARGV: the token, the time to live in milliseconds.
-- Answers 1 or 0, the milliseconds that the lease in the way has left, and the blob.
local granted = redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2])
local left = granted and 0 or redis.call('PTTL', KEYS[2])
return { granted and 1 or 0, left, redis.call('GET', KEYS[1]) }
