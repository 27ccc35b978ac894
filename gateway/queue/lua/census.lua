-- Counts the room and publishes it: what every gateway reads, so that all say the same. At most every 250 ms; ranks every second above 10,000.
-- ARGV  1 time
-- Returns: 'ok' or 'early', us until the next one is due.  Cost: 60 us; with ranks 3-4 ms at 1 M waiting.
local p, s = read_root()
if not p then return {'unknown'} end
if p.clock < p.census_due then return {'early', p.census_due - p.clock} end
begin_writes()
p.census_due, p.board = p.clock + 250000, p.board + 1
local waiting = call('ZCOUNT', QUEUE, '(' .. whole(p.passed), '+inf')
local below = call('ZCARD', QUEUE) - waiting
local held = call('ZCOUNT', HELD, '(' .. whole(p.clock - 2 * SECOND), '+inf')
local called = call('ZCARD', CALLED) + call('ZCARD', DOOR)
local permits, reason = openings(p, s)
-- Entries and places walked, faded over 60 s: their ratio kappa says how many of those ahead really enter.
local span = math.max(0, p.clock - p.flow_at)
local fade = math.exp(-span / (60 * SECOND))
p.flow_entries = p.flow_entries * fade + 1000 * math.max(p.entries - p.seen_entries, (p.calls - p.seen_calls) / 20)
p.flow_walked = p.flow_walked * fade + 1000 * (p.walked - p.seen_walked)
local brief = math.exp(-span / (10 * SECOND))
p.brief_all = p.brief_all * brief + 1000 * (p.entries + p.instants - p.seen_all)
p.brief_us, p.seen_all = p.brief_us * brief + span, p.entries + p.instants
p.flow_at, p.seen_entries, p.seen_walked, p.seen_calls = p.clock, p.entries, p.walked, p.calls
p.flow_entries = math.min(p.flow_entries, p.flow_walked)
local row = {'reason', reason, 'permits', whole(permits), 'kappa', whole((p.flow_entries + 10000) / (p.flow_walked + 10000) * 1000),
  'throughput', whole(p.brief_all * SECOND / math.max(SECOND, p.brief_us)), 'waiting', waiting, 'below', below,
  'called', called, 'held', held, 'young', young_calls(p), 'active', active_count(p), 'left_us', whole(math.max(0, p.recovering - p.clock)),
  'show_up', whole((p.shows + 2800) / (p.matured + 4000) * 1000), 'version', whole(p.board), 'settings', whole(s.version),
  'rate', whole(math.min(p.rate, s.rate)), 'stock', whole(s.stock), 'reported', whole(s.reported), 'now', whole(p.now)}
call('HSET', BOARD, 'epoch', p.epoch, 'next', p.next, 'passed', p.passed, 'clock', p.clock, 'present', p.present, 'entries', p.entries,
  'instants', p.instants, 'calls', p.calls, 'no_shows', p.no_shows, 'lapsed', p.lapsed, 'left', p.left, 'expired', p.expired, 'joins', p.joins,
  'admission_epoch', p.admission_epoch, 'release_seq', p.release_seq, 'heals', p.heals, 'events', math.max(0, math.abs(p.event) - 1))
if p.event > 0 then trim_record(s) end
if p.clock >= p.ranks_due then
  p.ranks_due = p.clock + (waiting > 10000 and SECOND or 250000)
  local ranks, rank = {whole(p.board), whole(p.next), whole(p.passed)}, 100
  local first = call('ZRANGE', QUEUE, below, below + 99, 'WITHSCORES')
  for i = 2, #first, 2 do ranks[#ranks + 1] = first[i] end
  while true do -- every 1 % further, and the last place
    rank = math.min(waiting, math.ceil(rank * 1.01))
    if rank <= 100 then break end
    ranks[#ranks + 1] = call('ZRANGE', QUEUE, below + rank - 1, below + rank - 1, 'WITHSCORES')[2]
    if rank == waiting then break end
  end
  call('SET', RANKS, waiting .. ' ' .. table.concat(ranks, ' '))
  row[#row + 1] = 'ranks'; row[#row + 1] = whole(p.board)
end
call('HSET', BOARD, unpack(row))
save(p, 'census_due', 'board', 'ranks_due', 'flow_entries', 'flow_walked', 'flow_at', 'brief_all', 'brief_us', 'seen_all', 'seen_entries', 'seen_walked', 'seen_calls')
return {'ok', 250000}
