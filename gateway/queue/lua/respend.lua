-- Carries numbers that a gateway saw spent to a server that may have lost them, before anybody can be granted a claim on one.
-- ARGV  1 time, 2 epoch they belong to; then <= 500 numbers
-- Returns 'ok'.  Cost: 4 us each.
local p = read_root()
if not p then return {'unknown'} end
begin_writes()
for i = 3, p.epoch == tonumber(ARGV[2]) and #ARGV or 0 do
  local number = tonumber(ARGV[i])
  for _, id in ipairs(call('ZRANGEBYSCORE', QUEUE, number, number)) do -- an old ticket came back before this did
    call('ZREM', QUEUE, id); call('ZREM', CALLED, id); call('ZREM', DOOR, id); call('ZREM', HELD, id)
  end
  spend(p, number)
end
save(p)
return {'ok'}
