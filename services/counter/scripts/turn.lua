-- Cancels a run, or makes it active again. Returns 0 and does nothing if it is
-- archived or unknown. ARGV: state, revision.
if not known() then return 0 end
redis.call('HSET', key('run'), 'state', ARGV[1], 'revision', ARGV[2])
moved()
return 1
