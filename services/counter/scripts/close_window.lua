-- Ends a window of the stability of a run's counts, unless someone else has
-- ended it, or the counts are being frozen: then its windows stay as they are.
-- ARGV: base of the window as read, the stage that freezes, then fields and
-- their values.
local window = key('window')
if not known() or redis.call('HEXISTS', key('stages'), ARGV[2]) == 1 then return 0 end
if (redis.call('HGET', window, 'base') or '') ~= ARGV[1] then return 0 end
redis.call('HSET', window, unpack(ARGV, 3))
return 1
