-- Adds tasks [first, last) of a stage to its queue, each with its place in the
-- hand-out order. Adds nothing if they were added before. Where an earlier
-- stage read the same inputs, what it quarantined is quarantined here too.
-- Returns -1 and does nothing unless the run is known and the stage before this
-- one is finished: Redis may have lost what the caller saw.
-- ARGV: stage id, total, first, the earlier stage or '', the stage before or '',
-- then one score per task.
local stages = key('stages')
local stage, total, first, earlier = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local function finished(name)
  local sizes = redis.call('HMGET', stages, name, name .. '/opened')
  local ended = redis.call('HMGET', key('tally:' .. name), 'done', 'quarantined')
  return sizes[1] and sizes[1] == sizes[2]
    and tonumber(ended[1] or 0) + tonumber(ended[2] or 0) == tonumber(sizes[1])
end
if redis.call('HEXISTS', key('run'), 'spec') == 0 then return -1 end
if ARGV[5] ~= '' and not finished(ARGV[5]) then return -1 end
if redis.call('HSETNX', stages, stage, total) == 1 then
  redis.call('HSET', stages, stage .. '/opened', 0)
  redis.call('HSET', key('openings'), stage, time[1] .. '.' .. time[2])
end
if tonumber(redis.call('HGET', stages, stage .. '/opened')) ~= first then return 0 end
local added, lost = #ARGV - 5, 0
for i = 6, #ARGV do
  local number = first + i - 6
  local id, before = stage .. ':' .. number, {}
  if earlier ~= '' then
    before = redis.call('HMGET', task_key(earlier .. ':' .. number), 'state', 'error')
  end
  if before[1] == 'quarantined' then
    redis.call('HSET', task_key(id), 'state', 'quarantined', 'error', before[2] or '')
    note(id, 'quarantined')
    lost = lost + 1
  else
    enqueue(id, ARGV[i])
  end
end
redis.call('HSET', stages, stage .. '/opened', first + added)
local tally = key('tally:' .. stage)
if added > lost then redis.call('HINCRBY', tally, 'ready', added - lost) end
if lost > 0 then redis.call('HINCRBY', tally, 'quarantined', lost) end
return added
