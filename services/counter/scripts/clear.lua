-- Deletes keys of an archived run. Returns 0 and does nothing if it is not
-- archived: someone has started it anew. ARGV: keys.
if redis.call('HGET', key('run'), 'state') ~= 'archived' then return 0 end
for i = 1, #ARGV, 1000 do
  redis.call('UNLINK', unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
return 1
