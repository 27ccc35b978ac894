-- What an upstream says is left: the lowest it has told since the operators last set the stock. No version changes by it.
-- ARGV  1 time, 2 how many are left
-- Returns: 'ok', the stock in force.  Cost: 15 us.
local p, s = read_root()
if not p then return {'unknown'} end
begin_writes()
local left = tonumber(ARGV[2])
if s.reported == 0 or left < s.reported - 1 then
  call('HSET', SETTINGS, 'reported', whole(left + 1))
  tell(p, 'stock', left .. ';')
end
save(p, 'event')
return {'ok', s.stock < 0 and left or math.min(s.stock, left)}
