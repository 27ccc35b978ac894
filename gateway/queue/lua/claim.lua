-- The door: holds the claims of this batch, drops those nobody renews, and grants the lowest numbers of all gateways' claims that
-- credit, cap and stock allow. A lower claim of another gateway keeps its permit, to be granted by that gateway's own call, while
-- it is tried (gateways try their lowest every 50 ms); one not tried for 0.5 s waits aside, so a dead gateway blocks nobody.
-- ARGV  1 time; then for each of <= 500: id, number, epoch, '1' to claim or renew | '0' to withdraw (the client has gone)
-- Returns for each: code, detail. Codes: admitted ("us-of-lease entry-second", with " number total" when it is used just now: its place, the entries so far), held (reason), waiting, ended, ahead, withdrawn,
--   lost (neither in the queue nor spent: check it in first).  Cost: 10-22 us each.
local p, s = read_root()
if not p then return {'unknown'} end
local answer, mine, renewed, rows, ids, gone, granted, leases, entries, shown, claimed = {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}
local newcomers, arrived, numbers, reserved, aside = {}, {}, {}, {}, {} -- what the record is told
local function judge(slot, id, number, epoch, is_claim)
  if not is_claim then push(gone, id); return 'withdrawn', 0 end
  local left_us = lease_left(p, id)
  if left_us then return 'admitted', left_us end
  if epoch < p.epoch then return 'ended', 0 end
  if epoch > p.epoch or number >= p.next then return 'ahead', 0 end
  local held = tonumber(call('ZSCORE', QUEUE, id) or '')
  if not held then return is_spent(number) and 'ended' or 'lost', 0 end
  if held > p.passed then return 'waiting', 0 end
  if not mine[id] then push(rows, held, id); push(renewed, p.clock, id); push(ids, id) end
  mine[id] = slot
  return 'held', 'rate'
end
for i = 2, #ARGV, 4 do push(answer, judge(#answer + 1, ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), ARGV[i + 3] == '1')) end
begin_writes()
for _, id in ipairs(call('ZRANGEBYSCORE', HELD, '-inf', whole(p.clock - 2 * SECOND), 'LIMIT', 0, 500)) do push(gone, id) end
if #gone > 0 then call('ZREM', HELD, unpack(gone)); call('ZREM', DOOR, unpack(gone)) end
local stood = #ids > 0 and call('ZMSCORE', DOOR, unpack(ids))
for i = 2, #rows, 2 do -- the first claim of a call of the caller's counts as a show, if the call is still young
  local called_at = tonumber(call('ZSCORE', CALLED, rows[i]) or '')
  local b = math.floor((called_at or 0) / (SECOND / 2))
  if called_at then push(claimed, rows[i]) end
  if not stood[i / 2] then push(arrived, rows[i - 1]); push(newcomers, rows[i]) end
  if called_at and called_at % 1 == 0 and p.bucket - b <= 4 then shown[b] = (shown[b] or 0) + 1 end
end
if #claimed > 0 then call('ZREM', CALLED, unpack(claimed)) end; for b, count in pairs(shown) do call('HINCRBY', PACE, 's' .. b % 8, count) end
if #rows > 0 then call('ZADD', DOOR, unpack(rows)); call('ZADD', HELD, unpack(renewed)) end
local permits, reason, active = openings(p, s)
local from, turns = 0, permits > 0 and #rows > 0 and call('ZRANGE', DOOR, 0, 49, 'WITHSCORES') or {}
while #turns > 0 do
  for i = 1, permits > 0 and #turns or 0, 2 do
    local id, slot = turns[i], mine[turns[i]]
    if slot and permits > 0 then
      spend(p, tonumber(turns[i + 1])); push(granted, id); push(numbers, turns[i + 1])
      local entered = entry_us(p, id)
      push(leases, p.clock + s.session, id); push(entries, entered, id)
      answer[slot], answer[slot + 1] = 'admitted', whole(s.session) .. ' ' .. whole(math.floor(entered / SECOND)) .. ' ' .. turns[i + 1] .. ' ' .. whole(p.entries + p.instants + #granted)
    end
    if slot or p.clock - (call('ZSCORE', HELD, id) or 0) <= SECOND / 2 then permits = permits - 1; if not slot then push(reserved, turns[i + 1]) end
    else push(aside, turns[i + 1]) end
  end
  from, turns = from + 50, permits > 0 and from < 450 and call('ZRANGE', DOOR, from + 50, from + 99, 'WITHSCORES') or {}
end
for _, set in ipairs(#granted > 0 and {QUEUE, DOOR, HELD} or {}) do call('ZREM', set, unpack(granted)) end
if #granted > 0 then call('ZADD', ACTIVE, unpack(leases)); call('ZADD', ENTERED, unpack(entries)) end
p.credit, p.entries = p.credit - UNIT * #granted, p.entries + #granted
for i, id in ipairs(ids) do if answer[mine[id]] == 'held' then answer[mine[id] + 1] = reason; mark(p, rows[2 * i - 1]) end end
if #newcomers + #granted + #gone > 0 then tell(p, 'claim', listed({s.rate, s.burst, s.active_max, active or 0, s.session}, arrived, numbers, reserved, aside), newcomers, granted, gone) end
save(p, 'entries', 'event')
return answer
