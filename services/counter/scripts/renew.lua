-- Extends a lease. ARGV: task id, token, lease ms, units done, units total.
local id, lease_ms = ARGV[1], tonumber(ARGV[3])
if not holds(id, ARGV[2]) then return 0 end
touch(lease_ms)
redis.call('ZADD', key('leases'), now + lease_ms, id)
if ARGV[4] ~= '' then
  if redis.call('HGET', task_key(id), 'units_done') ~= ARGV[4] then moved() end
  redis.call('HSET', task_key(id), 'units_done', ARGV[4], 'units_total', ARGV[5])
end
return 1
