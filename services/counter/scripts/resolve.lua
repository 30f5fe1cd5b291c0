-- Moves one task to another state at an operator's word, without blame.
-- What is quarantined stays so once the stage is open that makes it final.
-- ARGV: task id, expected state, new state (ready or quarantined), that stage.
local id = ARGV[1]
local task = task_key(id)
if not known() or redis.call('HGET', task, 'state') ~= ARGV[2] then return 0 end
local final = redis.call('HEXISTS', key('stages'), ARGV[4]) == 1
if ARGV[2] == 'quarantined' and final then return 0 end
move(id, ARGV[2], ARGV[3])
redis.call('ZREM', key('leases'), id)
redis.call('HDEL', task, 'failures', 'input_failures', 'avoid', 'avoid_until')
if ARGV[3] == 'ready' then enqueue(id, 0) end
return 1
