-- Stores an envelope if the condition holds, and tells who waits for it.
-- KEYS: the blob, its lease. ARGV: the bytes, the time to live in milliseconds, the condition
-- ('always', 'absent', 'revision', 'newer'), the condition's argument, the channel of removals, the
-- channel of leases, the id of the writer.
-- Answers 1 if it was stored, 0 if the condition does not hold.
-- A user who may not publish writes all the same, so a refused PUBLISH is no error.
-- The offsets are those of the envelope's header (docs/reference/format.md); a unit test compares them.

-- Strings are compared byte by byte: `<` would follow the server's locale.
local function later(a, b)
  for i = 1, #a do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x > y end
  end
  return false
end

-- Time, counter, node: the order of versions.
local function version(head)
  return string.sub(head, 41, 48) .. string.sub(head, 57, 60) .. string.sub(head, 49, 56)
end

local bytes, condition = ARGV[1], ARGV[3]
local holds = true
if condition == 'newer' then
  local held = redis.call('GETRANGE', KEYS[1], 0, 95)
  local same_format = string.sub(held, 1, 5) == string.sub(bytes, 1, 5)
  local same_key = string.sub(held, 65, 96) == string.sub(bytes, 65, 96)
  if #held == 96 and same_format and same_key then
    local latest = ARGV[4]
    local from_future = later(string.sub(held, 41, 48), latest) or later(string.sub(held, 17, 24), latest)
    holds = from_future or later(version(bytes), version(held))
  end
elseif condition == 'absent' then
  holds = redis.call('EXISTS', KEYS[1]) == 0
elseif condition == 'revision' then
  local sum = redis.call('GETRANGE', KEYS[1], 96, 103)
  local hex = string.gsub(sum, '.', function(c) return string.format('%02x', string.byte(c)) end)
  holds = hex .. '-' .. redis.call('STRLEN', KEYS[1]) == ARGV[4]
end

if holds then
  redis.call('SET', KEYS[1], bytes, 'PX', ARGV[2])
end
if string.byte(bytes, 6) == 1 then
  if holds then redis.pcall('PUBLISH', ARGV[5], ARGV[7] .. bytes) end
elseif redis.call('DEL', KEYS[2]) == 1 then
  -- A lease ends with a value, whatever its version.
  redis.pcall('PUBLISH', ARGV[6], KEYS[1])
end
return holds and 1 or 0
