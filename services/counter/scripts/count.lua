-- Adds the counts of one or several tasks to one range of one language, once.
-- KEYS: counts, marks. ARGV: bytes of the range, task numbers (packed u32),
-- then sparse adds (packed pairs of u32 offset in the range and u32 count).
-- Returns the tasks that were added before; then nothing was changed.
local function numbers(packed)
  local out, at = {}, 1
  while at <= #packed do out[#out + 1], at = struct.unpack('<I4', packed, at) end
  return out
end
local tasks, repeated = numbers(ARGV[2]), {}
for _, task in ipairs(tasks) do
  if redis.call('GETBIT', KEYS[2], task) == 1 then repeated[#repeated + 1] = task end
end
if #repeated > 0 then return repeated end
local size = tonumber(ARGV[1])
if redis.call('STRLEN', KEYS[1]) < size then redis.call('SETRANGE', KEYS[1], size - 1, '\0') end
local adds, at = ARGV[3], 1
while at <= #adds do
  local ops = {}
  while at <= #adds and #ops < 6000 do
    local offset, count
    offset, count, at = struct.unpack('<I4I4', adds, at)
    local n = #ops
    ops[n + 1], ops[n + 2], ops[n + 3], ops[n + 4] = 'INCRBY', 'i64', '#' .. offset, count
  end
  redis.call('BITFIELD', KEYS[1], unpack(ops))
end
for _, task in ipairs(tasks) do redis.call('SETBIT', KEYS[2], task, 1) end
return {}
