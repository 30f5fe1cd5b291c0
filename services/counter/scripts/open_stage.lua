-- Adds tasks [first, last) of a stage to its queue, each with its place in the
-- hand-out order. Adds nothing if they were added before. Where an earlier
-- stage read the same inputs, what it quarantined is quarantined here too.
-- Returns -1 and does nothing unless the run is known and the stages before
-- this one are finished: Redis may have lost what the caller saw. Converged
-- counts may be frozen before that, which is remembered.
-- Where each task reads one of another stage, it waits until that one is done,
-- or until it is final that it is quarantined.
-- ARGV: stage id, total, first, the earlier stage or '', the stages before,
-- windows below epsilon that open the stage early or '', the stage to wait for
-- or '', the stage that makes quarantine final, then one score per task.
local SCORES = 9
local stages = key('stages')
local stage, total, first, earlier = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
if not known() then return -1 end
local early = false
for before in string.gmatch(ARGV[5], '%S+') do early = early or not finished(before) end
if early then
  local below = tonumber(redis.call('HGET', key('window'), 'below') or 0)
  if ARGV[6] == '' or below < tonumber(ARGV[6]) then return -1 end
end
if redis.call('HSETNX', stages, stage, total) == 1 then
  redis.call('HSET', stages, stage .. '/opened', 0)
  redis.call('HSET', key('openings'), stage, time[1] .. '.' .. time[2])
  if early then redis.call('HSET', key('run'), 'early', 1) end
end
if tonumber(redis.call('HGET', stages, stage .. '/opened')) ~= first then return 0 end
local follows = ARGV[7] ~= '' and not finished(ARGV[8]) and ARGV[7]
if follows then redis.call('SADD', key('followers:' .. follows), stage) end
local added = { ready = 0, waiting = 0, quarantined = 0 }
for i = SCORES, #ARGV do
  local number = first + i - SCORES
  local id, before, state = stage .. ':' .. number, {}, 'ready'
  if earlier ~= '' then
    before = redis.call('HMGET', task_key(earlier .. ':' .. number), 'state', 'error')
  end
  if before[1] == 'quarantined' then
    state = 'quarantined'
    redis.call('HSET', task_key(id), 'state', state, 'error', before[2] or '')
    note(id, state)
  elseif follows and redis.call('HGET', task_key(follows .. ':' .. number), 'state') ~= 'done' then
    state = 'waiting'
  else
    enqueue(id, ARGV[i])
  end
  added[state] = added[state] + 1
end
redis.call('HSET', stages, stage .. '/opened', first + #ARGV - SCORES + 1)
moved()
for state, number in pairs(added) do
  if number > 0 then redis.call('HINCRBY', key('tally:' .. stage), state, number) end
end
return #ARGV - SCORES + 1
