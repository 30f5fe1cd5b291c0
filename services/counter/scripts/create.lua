-- Registers a run, or adds emissions to it, and makes it active. Returns 0 and
-- does nothing if it is archived, unless it shall start anew; whoever wants that
-- has deleted all but the marker.
-- ARGV: spec, time of creation, revision, '1' to start anew, the trace of this
-- call or '', then key, value and place of every emission.
local run = key('run')
if redis.call('HGET', run, 'state') == 'archived' then
  if ARGV[4] ~= '1' then return 0 end
  redis.call('DEL', run)
end
if redis.call('HSETNX', run, 'spec', ARGV[1]) == 1 then
  redis.call('HSET', run, 'schema', known_schema)
end
redis.call('HSETNX', run, 'created', ARGV[2])
redis.call('HSET', run, 'state', 'active', 'revision', ARGV[3])
if ARGV[5] ~= '' then redis.call('HSETNX', run, 'trace', ARGV[5]) end
moved()
for i = 6, #ARGV, 3 do
  redis.call('HSETNX', key('emissions'), ARGV[i], ARGV[i + 1])
  redis.call('ZADD', key('order'), 'NX', ARGV[i + 2], ARGV[i])
end
return 1
