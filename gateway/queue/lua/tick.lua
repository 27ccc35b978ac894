-- One step of the drain: moves the cursor over the queue, calls who is present and passes who is not, so that the door has about
-- two seconds of claims at hand. Any gateway may ask; the first one after the due time does the work.
-- ARGV  1 time, 2 how many places at most to look at (<= 500), 3 '1' when the upstream can take nobody
-- Returns: 'ok' or 'early', microseconds until the next tick is due (0: there is more to do now), called, parked.
-- Cost: 25 us idle; 2 us a place looked at.
local p, s = read_root()
if not p then return {'unknown'} end
if p.clock < p.tick_due then return {'early', p.tick_due - p.clock, 0, 0} end
begin_writes()
local rate_s = math.min(p.rate, s.rate) * SECOND / UNIT
-- Show-up: buckets of calls that became two seconds old enter an average whose memory is max(5 s, 30 / rate).
local bucket = math.floor(p.clock / (SECOND / 2))
if bucket - p.bucket > 8 then p.bucket = bucket - 8 end
local fade = math.exp(-0.5 / math.max(5, 30 / rate_s))
for b = p.bucket + 1, bucket do
  local old = call('HMGET', PACE, 'c' .. (b - 5) % 8, 's' .. (b - 5) % 8)
  p.matured = p.matured * fade + 1000 * tonumber(old[1] or 0)
  p.shows = p.shows * fade + 1000 * math.min(tonumber(old[1] or 0), tonumber(old[2] or 0))
  call('HSET', PACE, 'c' .. b % 8, 0, 's' .. b % 8, 0)
end
p.bucket = bucket
local held = call('ZCOUNT', HELD, '(' .. whole(p.clock - SECOND), '+inf') -- gateways renew every 0.7 s: older ones have gone
local young = young_calls(p)
-- The door is short when it could grant and nobody stands there though some were called: fewer show up than we believe.
local is_short = held == 0 and young > 0 and p.credit >= UNIT * math.max(1, rate_s / 4)
p.cut = is_short and math.max(500, p.cut * 0.95) or math.min(1000, p.cut * 1.02 + 1)
local show_up = math.max(0.05, (p.shows + 0.7 * 4000) / (p.matured + 4000) * p.cut / 1000)
local want = math.ceil((2 * rate_s + 2 * math.sqrt(2 * rate_s) + 3 - held - young * show_up) / show_up)
local _, reason = openings(p, s)
-- Paused: the prior's worth of calls is enough, claimed or not; else a long pause would pass everybody by.
if reason == 'paused' then want = math.min(want, math.ceil((2 * rate_s + 3) / 0.7) - held - call('ZCARD', CALLED)) end
if s.stock >= 0 then want = math.min(want, s.stock - active_count(p) - held - young) end
if ARGV[3] == '1' or reason == 'recovering' or reason == 'scheduled' or reason == 'closed' then want = 0 end
-- Nobody is absent until two whole slices of uninterrupted ticks lie behind.
local is_steady = p.slice - math.ceil(p.steady / (60 * SECOND)) >= 2
local limit, calls, looked, before, numbers = math.min(tonumber(ARGV[2]), math.max(1, 2 * want)), {}, 0, p.passed, {} -- half of them absent is rare, and costs another step
if want > 0 then
  local places = call('ZRANGEBYSCORE', QUEUE, '(' .. whole(p.passed), '+inf', 'WITHSCORES', 'LIMIT', 0, limit)
  for i = 1, #places, 2 do
    if #calls >= 2 * want then break end
    if not is_steady or is_present(p, tonumber(places[i + 1])) then
      push(calls, p.clock, places[i]); push(numbers, places[i + 1])
    end
    p.passed, looked = tonumber(places[i + 1]), looked + 1
  end
  -- Nobody is left above: a ticket that is not seated yet (a sleeper, after a loss) must not wait for a cursor that stands still.
  if 2 * looked == #places and looked < limit then p.passed = p.next - 1 end
  if #calls > 0 then call('ZADD', CALLED, unpack(calls)); call('HINCRBY', PACE, 'c' .. bucket % 8, #calls / 2) end
end
p.calls, p.walked = p.calls + #calls / 2, p.walked + looked
local is_cut_off = looked == limit and #calls < 2 * want
p.tick_due = is_cut_off and p.clock or p.clock + 100000
if p.passed > before then tell(p, 'call', listed({before, p.passed, looked}, numbers)) end
save(p, 'bucket', 'shows', 'matured', 'cut', 'passed', 'calls', 'walked', 'tick_due', 'event')
return {'ok', p.tick_due - p.clock, #calls / 2, looked - #calls / 2}
