-- Puts a marker in place of a run. From this moment on it is archived, and
-- whatever else Redis holds of it is waste. Returns 0 and does nothing if the run
-- has changed since its archive was made. ARGV: revision, marker.
local run = key('run')
if not known() or (redis.call('HGET', run, 'revision') or '') ~= ARGV[1] then return 0 end
redis.call('DEL', run, key('order'), key('emissions'))
redis.call('HSET', run, 'state', 'archived', 'marker', ARGV[2], 'schema', schema)
return 1
