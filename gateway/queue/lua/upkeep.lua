-- What time does to a room: raises the rate in force, rolls the presence bitmaps, lets leases, calls and held claims lapse, spends
-- places that were passed and unheard of for `absence_max`, ends the hold after a loss and numbers those who arrived during it.
-- ARGV  1 time, 2 how many lapsed entries of a kind to remove at most (<= 500)
-- Returns: 'ok', 1 when there is more to do now, else 0; leases lapsed, no-shows, absent places spent.  Cost: 45 us idle, 2 us an entry.
local p, s = read_root()
if not p then return {'unknown'} end
begin_writes()
local limit, is_more, lapsed, no_shows, expired, first = tonumber(ARGV[2]), 0, p.lapsed, p.no_shows, p.expired, p.next
local ends, absent, seated, away = {}, {}, {}, {} -- what the record is told
local function trim(key, before_us, also)
  local rows, gone = call('ZRANGEBYSCORE', key, '-inf', whole(before_us), 'WITHSCORES', 'LIMIT', 0, limit), {}
  for i = 1, #rows, 2 do push(gone, rows[i]); if key == ACTIVE then push(ends, rows[i + 1]) end end
  for _, set in ipairs(#gone > 0 and {key, also} or {}) do call('ZREM', set, unpack(gone)) end
  if #gone == limit then is_more = 1 end
  return gone
end
-- A cut counts at once, a raise in steps of 1.26 every 6 s: the crowd called at the old rate must reach the door first.
if p.rate > s.rate then p.rate = s.rate end
if p.rate < s.rate and p.clock - p.rate_at >= 6 * SECOND then p.rate, p.rate_at = math.min(s.rate, math.ceil(p.rate * 1.26)), p.clock end
local slice, generation = math.floor(p.clock / (60 * SECOND)), math.floor(p.clock / s.absence_max)
for i = math.max(p.slice + 1, slice - 2), slice do call('UNLINK', SEEN[i % 3]) end
for i = math.max(p.generation + 1, generation - 2), generation do call('UNLINK', KEPT[i % 3]) end
if p.generation ~= generation then p.swept = 0 end
if slice > p.slice + 1 then p.steady = p.clock end -- nobody rolled them meanwhile: marks of two slices lie in one
if slice > p.slice then p.present = slice - p.slice == 1 and call('BITCOUNT', SEEN[p.slice % 3]) or 0 end
p.slice, p.generation = slice, generation
local over, gone = trim(ACTIVE, p.clock, ENTERED), trim(HELD, p.clock - 2 * SECOND, DOOR)
p.lapsed = p.lapsed + #over
local unclaimed = call('ZRANGEBYSCORE', CALLED, '-inf', whole(p.clock - s.claim_window), 'WITHSCORES', 'LIMIT', 0, limit)
for i = 2, #unclaimed, 2 do if tonumber(unclaimed[i]) % 1 == 0 then p.no_shows = p.no_shows + 1 end end -- .5: came back, not called
trim(CALLED, p.clock - s.claim_window)
trim(REVOKED, p.now - s.session - 120 * SECOND)
-- Passed places: unheard of in this generation and the last one, by a walk from the lowest number that starts anew each generation.
if generation - math.ceil(p.steady / s.absence_max) >= 2 then
  local places = call('ZRANGEBYSCORE', QUEUE, '(' .. whole(p.swept), whole(p.passed), 'WITHSCORES', 'LIMIT', 0, 100)
  for i = 1, #places, 2 do
    local number, bit = tonumber(places[i + 1]), places[i + 1] % SEEN_MODULUS
    if call('GETBIT', KEPT[generation % 3], bit) + call('GETBIT', KEPT[(generation - 1) % 3], bit) == 0 then
      remove(p, places[i], number); p.expired = p.expired + 1
      push(absent, places[i + 1]); push(away, places[i])
    end
    p.swept = number
  end
end
-- The hold ends when its time is over, or after 2 s (other gateways report) once as many are seated as the last board counted.
local is_seated = p.reseat_goal >= 0 and p.recovering - p.clock <= 118 * SECOND and call('ZCOUNT', QUEUE, '(' .. whole(p.passed), '+inf') >= p.reseat_goal
if p.recovering > p.clock and is_seated then p.recovering = p.clock end
if p.recovering <= p.clock then
  local waiting = call('ZRANGE', ARRIVALS, 0, limit - 1)
  for _, id in ipairs(waiting) do
    if not call('ZSCORE', QUEUE, id) and not lease_left(p, id) then
      call('ZADD', QUEUE, whole(p.next), id); mark(p, p.next); push(seated, id)
      p.next, p.joins = p.next + 1, p.joins + 1
    end
  end
  if #waiting > 0 then call('ZREM', ARRIVALS, unpack(waiting)); is_more = 1 end
end
if #seated + #over + #away + #gone > 0 then tell(p, 'upkeep', listed({first, #seated}, ends, absent), seated, over, away, gone) end
save(p, 'rate', 'rate_at', 'slice', 'generation', 'swept', 'lapsed', 'no_shows', 'expired', 'recovering', 'next', 'joins', 'event')
return {'ok', is_more, p.lapsed - lapsed, p.no_shows - no_shows, p.expired - expired}
