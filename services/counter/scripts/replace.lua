-- Puts other counts and marks in place of a range's, unless tasks were added
-- to it since its marks were read. KEYS: counts, marks.
-- ARGV: marks as read, new counts, new marks. Returns 1 if it was replaced.
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], ARGV[3])
return 1
