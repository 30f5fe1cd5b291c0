-- Takes back expired leases, then hands out one task. Returns its id, or '' if
-- there is none, the trace of the run's creation, and the expired tasks, each
-- followed by the worker that held it. Returns false if the run is not active.
-- ARGV: worker, token, lease ms, backoff ms, max failures, ms to wait for a
-- second opinion, then wanted stages.
local worker, token = ARGV[1], ARGV[2]
local lease_ms, backoff_ms, max_failures = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local opinion_ms = tonumber(ARGV[6])
if redis.call('HGET', key('run'), 'state') ~= 'active' then return false end
local grace = touch(lease_ms)
local found = { '', redis.call('HGET', key('run'), 'trace') or '' }
mend(key('leases'), now + lease_ms, now + lease_ms)
if now >= grace then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('leases'), '-inf', now, 'LIMIT', 0, 100)) do
    local holder = redis.call('HGET', task_key(id), 'worker') or '?'
    failed(id, 'lease of ' .. holder .. ' expired: it died or hung', backoff_ms, max_failures)
    table.insert(found, id)
    table.insert(found, holder)
  end
end
for i = 7, #ARGV do
  local queue = key('queue:' .. ARGV[i])
  mend(queue, now + backoff_ms * 2 ^ max_failures, now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', 0, 16)) do
    local task = task_key(id)
    local avoid = redis.call('HMGET', task, 'avoid', 'avoid_until')
    local wait = tonumber(avoid[2] or now) - now
    if avoid[1] ~= worker or wait <= 0 or wait > opinion_ms then
      redis.call('ZREM', queue, id)
      move(id, 'ready', 'leased')
      redis.call('HSET', task, 'worker', worker, 'token', token, 'units_done', 0)
      redis.call('ZADD', key('leases'), now + lease_ms, id)
      found[1] = id
      return found
    end
  end
end
return found
