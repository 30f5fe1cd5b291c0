-- Adds tasks [first, last) of a stage to its queue, each with its place in the
-- hand-out order. Adds nothing if they were added before.
-- ARGV: stage id, total, first, then one score per task.
local stages = key('stages')
local stage, total, first = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if redis.call('HSETNX', stages, stage, total) == 1 then
  redis.call('HSET', stages, stage .. '/opened', 0)
end
if tonumber(redis.call('HGET', stages, stage .. '/opened')) ~= first then return 0 end
for i = 4, #ARGV do
  local id = stage .. ':' .. (first + i - 4)
  enqueue(id, ARGV[i])
end
local added = #ARGV - 3
redis.call('HSET', stages, stage .. '/opened', first + added)
if added > 0 then redis.call('HINCRBY', key('tally:' .. stage), 'ready', added) end
return added
