-- Precedes every script that touches a run: refuses one that a newer release has
-- made. `run_hash` and `known_schema` are given.
local schema = tonumber(redis.call('HGET', run_hash, 'schema') or 1)
if schema > known_schema then
  return redis.error_reply('NEWERSCHEMA ' .. schema .. ' ' .. known_schema)
end
