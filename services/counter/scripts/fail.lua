-- Ends a failed attempt. ARGV: task id, token, kind (input, other, permanent),
-- reason, backoff ms, max failures, ms to wait for a second opinion, and the
-- stage whose tasks are quarantined when their input is unreadable twice.
local id, kind, reason = ARGV[1], ARGV[3], ARGV[4]
if not holds(id, ARGV[2]) then return false end
local task = task_key(id)
if kind == 'input' and string.match(id, '^' .. ARGV[8] .. ':') then
  local seen = redis.call('HINCRBY', task, 'input_failures', 1)
  local worker = redis.call('HGET', task, 'worker')
  redis.call('HSET', task, 'avoid', worker, 'avoid_until', now + tonumber(ARGV[7]))
  if seen >= 2 then
    redis.call('ZREM', key('leases'), id)
    redis.call('HSET', task, 'error', reason, 'token', '')
    move(id, 'leased', 'quarantined')
    return 'quarantined'
  end
end
local allowed = kind == 'permanent' and 1 or tonumber(ARGV[6])
return failed(id, reason, tonumber(ARGV[5]), allowed)
