-- Puts other marks and counts in place of a range's, unless the marks are no
-- longer the ones that the new values were made from: who changes counts
-- changes marks. KEYS: counts, marks, the run's hash. ARGV: marks as read, new
-- marks, new counts (empty: as they are). Returns 1 if it did.
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
if ARGV[3] ~= '' then redis.call('SET', KEYS[1], ARGV[3]) end
return 1
