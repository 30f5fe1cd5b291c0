-- Ends a window of the stability of a run's counts, unless someone else has
-- ended it. ARGV: base of the window as read, then fields and their values.
local window = key('window')
if (redis.call('HGET', window, 'base') or '') ~= ARGV[1] then return 0 end
redis.call('HSET', window, unpack(ARGV, 2))
return 1
