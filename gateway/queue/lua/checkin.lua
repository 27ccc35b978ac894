-- A batch of contacts: joins by id, tickets to be looked up. Finds, seats, re-seats, marks present, calls those back at a passed place.
-- ARGV  1 time; then for each of <= 500: id (16 bytes), and of a ticket 'number epoch', of a join '' or when it arrived in us
-- Returns: epoch, then a list with for each: code, number, detail. Codes: new, known (detail = places ahead), called (us left of the claim window),
--   admitted ("us-left-of-lease entry-second"), ended, ahead (proof that this server lost something), recovering, full, closed, sold_out
-- Cost: 25 us and 2.5-3 us each. The first write is the ZADD of the newcomers: a full server refuses it, and they alone hear `full`.
local p, s = read_root()
if not p then return {'unknown'} end
local ids, answer, seats, marks, recalled, arrivals, replaced, seated = {}, {}, {}, {}, {}, {}, {}, {}
local first, joins, in_line, above = p.next, p.joins, call('ZCARD', ARRIVALS), call('ZCOUNT', QUEUE, '(' .. whole(p.passed), '+inf')
for i = 2, #ARGV, 2 do push(ids, ARGV[i]) end
local places, leases = call('ZMSCORE', QUEUE, unpack(ids)), call('ZMSCORE', ACTIVE, unpack(ids))
local is_settling, is_closed = p.clock < p.recovering or in_line > 0, s.closes_at > 0 and p.now >= s.closes_at -- arrivals of a hold first
local function stand(id, number)
  push(marks, number)
  if number > p.passed then
    local ahead = number >= first and above + number - first or call('ZCOUNT', QUEUE, '(' .. whole(p.passed), '(' .. whole(number))
    return push(answer, 'known', number, ahead)
  end
  local at = tonumber(call('ZSCORE', CALLED, id) or '')
  -- Half a microsecond tells those who came back from those whom the caller called: its show-up counts only the latter.
  if not at and not call('ZSCORE', DOOR, id) then push(recalled, p.clock + 0.5, id) end
  return push(answer, 'called', number, math.max(0, s.claim_window - (p.clock - (at or p.clock))))
end
local function join(id, arrival, place, lease)
  local left_us, number = lease and lease_left(p, id, lease), tonumber(seated[id] or place or '')
  if left_us then return push(answer, 'admitted', 0, left_us) end
  if number then return stand(id, number) end
  if is_closed or s.stock == 0 then return push(answer, is_closed and 'closed' or 'sold_out', 0, 0) end
  local is_full = p.present + in_line + #arrivals / 2 + p.next - first >= s.waiting_max
  if is_full and not (is_settling and call('ZSCORE', ARRIVALS, id)) then return push(answer, 'full', 0, 0) end
  if is_settling then return push(arrivals, arrival ~= '' and arrival or p.now, id) and push(answer, 'recovering', 0, 0) end
  number, p.next, p.joins, seated[id] = p.next, p.next + 1, p.joins + 1, p.next
  return push(seats, number, id) and push(answer, 'new', number, above + number - first)
end
local function find(id, number, epoch, place, lease)
  if epoch < p.epoch then return push(answer, 'ended', number, 0) end
  if epoch > p.epoch or number >= first then return push(answer, 'ahead', number, 0) end
  local held, left_us = tonumber(seated[id] or place or ''), lease and lease_left(p, id, lease)
  if held and (held <= number or is_spent(number)) then return stand(id, held) end
  if left_us or is_spent(number) then return push(answer, left_us and 'admitted' or 'ended', number, left_us or 0) end
  if held then push(replaced, held) end; seated[id] = number -- the older ticket of this id wins; the newer number is used up
  return push(seats, number, id) and stand(id, number)
end
for n, id in ipairs(ids) do
  local what, number, epoch = ARGV[2 * n + 1]
  if what ~= '' then number, epoch = string.match(what, '^(%d+) (%d+)$') end -- else it is a join
  if number then find(id, tonumber(number), tonumber(epoch), places[n], leases[n]) else join(id, what, places[n], leases[n]) end
end
if (#seats > 0 and is_refused(QUEUE, unpack(seats))) or (#arrivals > 0 and is_refused(ARRIVALS, 'LT', unpack(arrivals))) then
  p.next, p.joins, replaced, seats = first, joins, {}, {}
  for i = 2, #answer, 3 do if answer[i] >= first and answer[i - 1] ~= 'ahead' then answer[i - 1], answer[i], answer[i + 1] = 'full', 0, 0 end end
end
begin_writes()
if #recalled > 0 then call('ZADD', CALLED, 'NX', unpack(recalled)) end
mark_new(p, first, p.next - 1)
for _, number in ipairs(replaced) do spend(p, number) end
for _, number in ipairs(marks) do if number < p.next then mark(p, number) end end
if #seats + #recalled > 0 then tell_joins(p, first, ids, seats, recalled, replaced) end
save(p, 'next', 'joins', 'event')
return {p.epoch, answer}
