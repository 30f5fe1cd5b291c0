-- Marks the store with the version that runs are about to be made in, unless its
-- mark is higher already. KEYS: the mark. ARGV: the version. Returns the mark.
local found = tonumber(redis.call('GET', KEYS[1]) or 0)
if found >= tonumber(ARGV[1]) then return found end
redis.call('SET', KEYS[1], ARGV[1])
return tonumber(ARGV[1])
