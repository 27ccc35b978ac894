-- Instant entry: while nobody waits, no claim is held and no call is young, a visitor enters at once. The slot lapses after 30 s
-- unless the admission comes back (a touch); monitors and link previews do not.
-- ARGV  1 time, 2 us of the unconfirmed slot; then for each of <= 500: id, number of its ticket or '', epoch or ''
-- Returns for each: 'admitted' ("us-of-lease entry-second", with " number total" when it is new: of the place that was used or 0, the entries so far), 'busy', 'ended', 'ahead' and a detail.  Cost: 8 us each.
local p, s = read_root()
if not p then return {'unknown'} end
local answer, places, tickets, names = {}, {}, {}, {}
local above = call('ZCOUNT', QUEUE, '(' .. whole(p.passed), '+inf')
local held = call('ZCOUNT', HELD, '(' .. whole(p.clock - 2 * SECOND), '+inf')
local permits, _, active = openings(p, s)
local ahead = above + held + young_calls(p)
if ahead > 0 or call('EXISTS', ARRIVALS) == 1 then permits = 0 end
begin_writes()
local function enter(id, number, epoch)
  local left_us = lease_left(p, id)
  if left_us then return 'admitted', left_us end
  if number then
    if epoch < p.epoch then return 'ended', 0 end
    if epoch > p.epoch or number >= p.next then return 'ahead', 0 end
    if is_spent(number) then return 'ended', 0 end
  end
  local held_number = tonumber(call('ZSCORE', QUEUE, id) or '')
  if permits < 1 or (held_number and held_number > p.passed) then return 'busy', 0 end
  permits, p.credit, p.instants = permits - 1, p.credit - UNIT, p.instants + 1
  call('ZREM', CALLED, id); call('ZREM', DOOR, id); call('ZREM', HELD, id)
  if number then spend(p, number) end
  if held_number then remove(p, id, held_number) end
  push(places, held_number or 0); push(tickets, number or 0); push(names, id)
  local entered = entry_us(p, id)
  call('ZADD', ACTIVE, p.clock + tonumber(ARGV[2]), id); call('ZADD', ENTERED, entered, id)
  return 'admitted', whole(s.session) .. ' ' .. whole(math.floor(entered / SECOND)) .. ' ' .. (held_number or 0) .. ' ' .. whole(p.entries + p.instants)
end
for i = 3, #ARGV, 3 do
  local code, detail = enter(ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]))
  answer[#answer + 1] = code; answer[#answer + 1] = detail
end
if #names > 0 then tell(p, 'enter', listed({s.rate, s.burst, s.active_max, active, ARGV[2], ahead}, places, tickets), names) end
save(p, 'instants', 'event')
return answer
