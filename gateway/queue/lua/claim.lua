-- The door: holds the claims of this batch, drops those nobody renews, and grants the lowest numbers of all gateways' claims that
-- credit, cap and stock allow. A number of another gateway that ranks before ours keeps its turn; it is granted by its own call.
-- ARGV  1 time; then for each of <= 500: id, number, epoch, '1' to claim or renew | '0' to withdraw (the client has gone)
-- Returns for each: code, detail. Codes: admitted (us of lease), held (reason), waiting, ended, ahead, withdrawn,
--   lost (neither in the queue nor spent: check it in first)
-- Cost: 6 us each.
local p, s = read_root()
if not p then return {'unknown'} end
local answer, mine, renewed, rows, gone = {}, {}, {}, {}, {}
local function judge(slot, id, number, epoch, is_claim)
  if not is_claim then gone[#gone + 1] = id; answer[slot] = 'withdrawn'; return end
  local left_us = lease_left(p, id)
  if left_us then answer[slot], answer[slot + 1] = 'admitted', left_us; return end
  if epoch < p.epoch then answer[slot] = 'ended'; return end
  if epoch > p.epoch or number >= p.next then answer[slot] = 'ahead'; return end
  local held = tonumber(call('ZSCORE', QUEUE, id) or '')
  if not held then answer[slot] = is_spent(number) and 'ended' or 'lost'; return end
  if held > p.passed then answer[slot] = 'waiting'; return end
  answer[slot] = 'held'
  if not mine[id] then
    rows[#rows + 1] = whole(held); rows[#rows + 1] = id
    renewed[#renewed + 1] = whole(p.clock); renewed[#renewed + 1] = id
  end
  mine[id] = slot
end
for i = 2, #ARGV, 4 do
  local slot = (i - 2) / 2 + 1
  answer[slot + 1] = 0
  judge(slot, ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), ARGV[i + 3] == '1')
end
begin_writes()
local stale = call('ZRANGEBYSCORE', HELD, '-inf', whole(p.clock - 2 * SECOND), 'LIMIT', 0, 500)
for _, id in ipairs(stale) do gone[#gone + 1] = id end
if #gone > 0 then call('ZREM', HELD, unpack(gone)); call('ZREM', DOOR, unpack(gone)) end
for i = 2, #rows, 2 do -- the first claim of a call of the caller's counts as a show, if the call is still young
  local called_at = tonumber(call('ZSCORE', CALLED, rows[i]) or '')
  if called_at then
    call('ZREM', CALLED, rows[i])
    local b = math.floor(called_at / (SECOND / 2))
    if called_at % 1 == 0 and p.bucket - b <= 4 then call('HINCRBY', PACE, 's' .. b % 8, 1) end
  end
  mark(p, tonumber(rows[i - 1]))
end
if #rows > 0 then call('ZADD', DOOR, unpack(rows)); call('ZADD', HELD, unpack(renewed)) end
local permits, reason = openings(p, s)
local turns = permits > 0 and call('ZRANGE', DOOR, 0, math.min(permits, 500) - 1, 'WITHSCORES') or {}
for i = 1, #turns, 2 do
  local id, slot = turns[i], mine[turns[i]]
  if slot then
    remove(p, id, tonumber(turns[i + 1]))
    call('ZREM', DOOR, id); call('ZREM', HELD, id)
    call('ZADD', ACTIVE, whole(p.clock + s.session), id)
    p.credit, p.entries = p.credit - UNIT, p.entries + 1
    answer[slot], answer[slot + 1] = 'admitted', s.session
  end
end
for _, slot in pairs(mine) do if answer[slot] == 'held' then answer[slot + 1] = reason end end
save(p, 'entries')
return answer
