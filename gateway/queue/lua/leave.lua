-- Places given up by those who held them.
-- ARGV  1 time; then for each of <= 500: id, number, epoch
-- Returns for each: the number of the place, or 0 when it was not there any more.  Cost: 5 us each.
local p = read_root()
if not p then return {'unknown'} end
local answer, places, tickets, names = {}, {}, {}, {}
begin_writes()
for i = 2, #ARGV, 3 do
  local id, number, epoch = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local held = tonumber(call('ZSCORE', QUEUE, id) or '')
  if epoch ~= p.epoch or (number >= p.next) or (not held and is_spent(number)) then
    answer[#answer + 1] = 0
  else
    spend(p, number)
    if held then remove(p, id, held) end
    call('ZREM', CALLED, id); call('ZREM', DOOR, id); call('ZREM', HELD, id)
    p.left = p.left + 1
    push(places, held or number); push(tickets, number); push(names, id)
    answer[#answer + 1] = held or number
  end
  call('ZREM', ARRIVALS, id)
end
if #names > 0 then tell(p, 'leave', listed(places, tickets), names) end
save(p, 'left', 'event')
return answer
