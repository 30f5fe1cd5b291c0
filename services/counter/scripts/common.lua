-- Shared by all ledger scripts. KEYS[1] is the run's prefix key: every other
-- key of the run is built from it and lies in the same slot.
local prefix = KEYS[1]
local function key(name) return prefix .. name end
local function task_key(id) return prefix .. 'task:' .. id end
local function queue_key(id) return prefix .. 'queue:' .. string.match(id, '^(%d+)') end
local function stage_of(id) return (string.gsub(id, ':%d+$', '')) end

-- False if the run is archived, or Redis has lost it.
local function known() return redis.call('HEXISTS', key('run'), 'spec') == 1 end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- Notes that the run gets on; metrics tell for how long it has not.
local function moved() redis.call('HSET', key('run'), 'moved', now) end

-- Leases expire by Redis's clock. Where nothing was heard for half a lease,
-- Redis or all counters were away: holders get one lease time to come back.
local function touch(lease_ms)
  local run = key('run')
  local seen = tonumber(redis.call('HGET', run, 'seen') or now)
  if now - seen > lease_ms / 2 then
    redis.call('HSET', run, 'grace', now + lease_ms)
  end
  redis.call('HSET', run, 'seen', now)
  local grace = tonumber(redis.call('HGET', run, 'grace') or 0)
  if grace > now + lease_ms then
    grace = now + lease_ms
    redis.call('HSET', run, 'grace', grace)
  end
  return grace
end

-- Times further ahead than they can have been set are from before the clock
-- went back: nothing waits until it is there again.
local function mend(times, latest, instead)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', times, '(' .. latest, '+inf', 'LIMIT', 0, 100)) do
    redis.call('ZADD', times, instead, id)
  end
end

-- Tasks that wait for an operator, by number, so that nobody has to look
-- through all tasks for them.
local waiting = { blocked = true, quarantined = true }
local function note(id, state)
  local problems = key('problems:' .. stage_of(id))
  if waiting[state] then
    redis.call('ZADD', problems, string.match(id, '%d+$'), id)
  else
    redis.call('ZREM', problems, id)
  end
end

local function move(id, from, to)
  local tally = key('tally:' .. stage_of(id))
  redis.call('HINCRBY', tally, from, -1)
  redis.call('HINCRBY', tally, to, 1)
  redis.call('HSET', task_key(id), 'state', to)
  if waiting[from] or waiting[to] then note(id, to) end
end

local function enqueue(id, at)
  redis.call('ZADD', queue_key(id), at, id)
end

local function finished(stage)
  local sizes = redis.call('HMGET', key('stages'), stage, stage .. '/opened')
  local ended = redis.call('HMGET', key('tally:' .. stage), 'done', 'quarantined')
  return sizes[1] and sizes[1] == sizes[2]
    and tonumber(ended[1] or 0) + tonumber(ended[2] or 0) == tonumber(sizes[1])
end

-- Tasks of other stages that waited for this one may be handed out now. Those
-- that are not opened yet will not wait.
local function wake(id)
  local number = tonumber(string.match(id, '%d+$'))
  for _, stage in ipairs(redis.call('SMEMBERS', key('followers:' .. stage_of(id)))) do
    if number < tonumber(redis.call('HGET', key('stages'), stage .. '/opened')) then
      redis.call('HINCRBY', key('tally:' .. stage), 'waiting', -1)
      redis.call('HINCRBY', key('tally:' .. stage), 'ready', 1)
      enqueue(stage .. ':' .. number, 0)
    end
  end
end

-- A failed attempt: back off, or block once there were too many.
local function failed(id, reason, backoff_ms, max_failures)
  local task = task_key(id)
  local failures = redis.call('HINCRBY', task, 'failures', 1)
  redis.call('HSET', task, 'error', reason, 'token', '')
  redis.call('ZREM', key('leases'), id)
  if failures >= max_failures then
    move(id, 'leased', 'blocked')
    return 'blocked'
  end
  move(id, 'leased', 'ready')
  enqueue(id, now + backoff_ms * 2 ^ (failures - 1))
  return 'ready'
end

local function holds(id, token)
  local run_state = redis.call('HGET', key('run'), 'state')
  local task = redis.call('HMGET', task_key(id), 'state', 'token')
  return run_state == 'active' and task[1] == 'leased' and task[2] == token
end
