-- Ends a task with its result. Repeating it with the same token changes
-- nothing. What waits for this task may be handed out now, and if its stage
-- makes the quarantine of another final, also what waits for those tasks.
-- ARGV: task id, token, result, that other stage or '', then pairs of (total,
-- increment).
local id, token = ARGV[1], ARGV[2]
local task = task_key(id)
local before = redis.call('HMGET', task, 'state', 'token')
if before[1] == 'done' and before[2] == token then return 1 end
if not holds(id, token) then return 0 end
redis.call('ZREM', key('leases'), id)
move(id, 'leased', 'done')
moved()
redis.call('HSET', task, 'result', ARGV[3], 'error', '')
redis.call('HDEL', task, 'units_done', 'units_total')
for i = 5, #ARGV, 2 do redis.call('HINCRBY', key('totals'), ARGV[i], ARGV[i + 1]) end
wake(id)
if ARGV[4] ~= '' then
  for _, lost in ipairs(redis.call('ZRANGE', key('problems:' .. ARGV[4]), 0, -1)) do wake(lost) end
end
return 1
