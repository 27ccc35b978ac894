-- Carries numbers that a gateway saw spent to a server that may have lost them, before anybody can be granted a claim on one.
-- ARGV  1 time, 2 epoch they belong to; then <= 500 numbers
-- Returns 'ok'.  Cost: 4 us each.
local p = read_root()
if not p then return {'unknown'} end
begin_writes()
local removed = {}
for i = 3, p.epoch == tonumber(ARGV[2]) and #ARGV or 0 do
  local number = tonumber(ARGV[i])
  for _, id in ipairs(call('ZRANGEBYSCORE', QUEUE, number, number)) do -- an old ticket came back before this did
    call('ZREM', QUEUE, id); call('ZREM', CALLED, id); call('ZREM', DOOR, id); call('ZREM', HELD, id)
    push(removed, number)
  end
  spend(p, number)
end
tell(p, 'respend', listed({#ARGV - 2}, removed))
save(p, 'event')
return {'ok'}
