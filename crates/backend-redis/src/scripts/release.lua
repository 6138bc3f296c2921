-- Ends a lease if it is still the one with this token, and tells who waits for it.
-- KEYS: the blob, its lease. ARGV: the token, the channel of leases.
if redis.call('GET', KEYS[2]) == ARGV[1] then
  redis.call('DEL', KEYS[2])
  redis.pcall('PUBLISH', ARGV[2], KEYS[1])
  return 1
end
return 0
