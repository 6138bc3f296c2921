-- Stores an envelope if the condition holds, and tells who waits for it.
-- KEYS: the blob, its lease. ARGV: the bytes, the time to live in milliseconds, the condition
-- ('always', 'absent', 'revision', 'newer'), the condition's argument, the channel of removals, the
-- channel of leases, the id of the writer.
-- Answers 1 if it was stored, 0 if the condition does not hold.
-- A user who may not publish writes all the same, so a refused PUBLISH is no error.
-- The offsets are those of the envelope's header (docs/reference/format.md); a unit test compares them.

-- Numbers of 64 bits are compared as two halves: a number of Lua has 53. Strings are not compared by
-- `<`, which follows the server's locale.
local unpack, sub = struct.unpack, string.sub

-- Time, counter, node: the order of versions.
local function newer(a, b)
  local a1, a2, a3, a4, a5 = unpack('>I4I4I4I4I4', a, 41)
  local b1, b2, b3, b4, b5 = unpack('>I4I4I4I4I4', b, 41)
  if a1 ~= b1 then return a1 > b1 end
  if a2 ~= b2 then return a2 > b2 end
  if a5 ~= b5 then return a5 > b5 end
  if a3 ~= b3 then return a3 > b3 end
  return a4 > b4
end

-- Whether the 64 bits of `a` at `at` are above those of `b` at its start.
local function above(a, at, b)
  local a1, a2 = unpack('>I4I4', a, at)
  local b1, b2 = unpack('>I4I4', b)
  if a1 ~= b1 then return a1 > b1 end
  return a2 > b2
end

local bytes, condition = ARGV[1], ARGV[3]
local holds = true
if condition == 'newer' then
  local held = redis.call('GETRANGE', KEYS[1], 0, 95)
  local same_format = #held == 96 and sub(held, 1, 5) == sub(bytes, 1, 5)
  if same_format and sub(held, 65, 96) == sub(bytes, 65, 96) then
    local latest = ARGV[4]
    holds = newer(bytes, held) or above(held, 41, latest) or above(held, 17, latest)
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
