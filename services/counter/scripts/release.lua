-- Gives a task back without blame. ARGV: task id, token.
local id = ARGV[1]
if not holds(id, ARGV[2]) then return 0 end
redis.call('ZREM', key('leases'), id)
redis.call('HSET', task_key(id), 'token', '')
move(id, 'leased', 'ready')
enqueue(id, 0)
return 1
