-- Put before every script: the names of the keys, the root of the room, and the arithmetic that all transitions share.
-- KEYS  1 pace  2 settings  3 queue  4 called  5 door  6 held  7 active  8 revoked  9-11 seen:0..2  12-14 kept:0..2
--       15 spent  16 board  17 ranks  18 arrivals  19 entered
-- ARGV  1 time in microseconds, or '' for the server's own
-- Returns nothing itself.  Cost: TIME 1 us, INFO server 10-15 us, two HMGET 5 us.
local UNIT, SECOND, SEEN_MODULUS = 3600000000, 1000000, 8388608
local PACE, SETTINGS, QUEUE, CALLED, DOOR, HELD, ACTIVE, REVOKED = unpack(KEYS, 1, 8)
local SPENT, BOARD, RANKS, ARRIVALS, ENTERED = unpack(KEYS, 15, 19)
local FIELDS = {'epoch', 'next', 'passed', 'credit', 'clock', 'at', 'steady', 'rate', 'rate_at', 'slice', 'generation',
  'swept', 'recovering', 'reseat_goal', 'proven', 'ghost', 'ghost_until', 'ghost_at', 'told', 'tick_due', 'bucket', 'shows', 'matured', 'cut', 'present',
  'entries', 'instants', 'calls', 'no_shows', 'walked', 'lapsed', 'left', 'expired', 'joins', 'admission_epoch', 'release_seq', 'heals', 'census_due', 'ranks_due',
  'board', 'seen_entries', 'seen_walked', 'seen_calls', 'flow_entries', 'flow_walked', 'flow_at', 'brief_all', 'brief_us', 'seen_all'}
local LIMITS = {'rate', 'burst', 'active_max', 'paused', 'stock', 'session', 'claim_window', 'absence_max', 'waiting_max',
  'opens_at', 'closes_at', 'session_max', 'reported', 'version'}
local call = redis.call
local function whole(x) return string.format('%.0f', x) end -- tostring would cut a microsecond stamp to 14 digits
local function now_us()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local time = call('TIME')
  return time[1] * SECOND + time[2]
end
local function run_id() return string.match(call('INFO', 'server'), 'run_id:(%x+)') end
local function numbers(key, names)
  local row, values = call('HMGET', key, unpack(names)), {}
  for i, name in ipairs(names) do values[name] = tonumber(row[i] or '') or 0 end
  return values
end
-- The root and the limits in force, with the room's clock, credit and time brought up to now; nil where this server must not be
-- written to. A stall, a step of the clock or a fail-over adds nothing to the clock, and so earns no credit.
local function read_root()
  if call('HGET', PACE, 'run') ~= run_id() then return nil end
  local p, s = numbers(PACE, FIELDS), numbers(SETTINGS, LIMITS)
  if s.version == 0 then return nil end
  if s.reported > 0 and (s.stock < 0 or s.reported - 1 < s.stock) then s.stock = s.reported - 1 end -- the upstream's count, plus 1
  p.now = now_us()
  local passed_us = p.now - p.at
  if passed_us < 0 or passed_us > SECOND then p.steady, passed_us = p.clock, 0 end
  p.at, p.clock = p.now, p.clock + passed_us
  p.credit = math.min(s.burst * UNIT, p.credit + passed_us * math.min(p.rate, s.rate))
  return p, s
end
-- Writes the named fields and always those that `read_root` moved. PERSIST first: a full server still allows it, and lets the
-- writes after it pass.
local function begin_writes() call('PERSIST', PACE) end
local function save(p, ...)
  local row = {'clock', whole(p.clock), 'at', whole(p.at), 'credit', whole(p.credit), 'steady', whole(p.steady), 'present', whole(p.present)}
  for _, name in ipairs({...}) do row[#row + 1] = name; row[#row + 1] = whole(p[name]) end
  call('HSET', PACE, unpack(row))
end
local function push(list, a, b, c) -- one to three values; returns true, so that an answer can be the end of a function
  local n = #list
  list[n + 1], list[n + 2], list[n + 3] = a, b, c
  return true
end
local function is_refused(key, ...) return type(redis.pcall('ZADD', key, ...)) == 'table' end
-- When an entry made now counts from, in us: tokens know whole seconds, and the second in which an id was released is over for it.
local function entry_us(p, id)
  local released = tonumber(call('ZSCORE', REVOKED, id) or '')
  return math.max(p.now, released and (math.floor(released / SECOND) + 1) * SECOND or 0)
end
-- Microseconds of the slot this id holds and the second it entered, as "lease entered"; nil without a slot.
local function lease_left(p, id)
  local lease = tonumber(call('ZSCORE', ACTIVE, id) or '')
  if not lease or lease <= p.clock then return nil end
  return whole(lease - p.clock) .. ' ' .. whole(math.floor((call('ZSCORE', ENTERED, id) or p.now) / SECOND))
end
local function is_spent(number) return call('GETBIT', SPENT, number) == 1 end
local function is_present(p, number)
  local bit = number % SEEN_MODULUS
  return call('GETBIT', KEYS[9 + p.slice % 3], bit) == 1 or call('GETBIT', KEYS[9 + (p.slice - 1) % 3], bit) == 1
end
local function mark(p, number) -- heard from: present in this slice, kept for this generation
  local bit = number % SEEN_MODULUS
  if call('SETBIT', KEYS[9 + p.slice % 3], bit, 1) == 0 and call('GETBIT', KEYS[9 + (p.slice - 1) % 3], bit) == 0 then
    p.present = p.present + 1
  end
  call('SETBIT', KEYS[12 + p.generation % 3], bit, 1)
end
local function spend(p, number) -- used or given up: never seated again, and not counted among the present
  local bit, had = number % SEEN_MODULUS, 0
  for slice = p.slice - 1, p.slice do had = had + call('SETBIT', KEYS[9 + slice % 3], bit, 0) end
  if had > 0 then p.present = math.max(0, p.present - 1) end
  call('SETBIT', SPENT, number, 1)
end
local function remove(p, id, number) -- a place out of the queue, and its number spent
  call('ZREM', QUEUE, id)
  spend(p, number)
end
local function active_count(p)
  local ghosts = p.clock < p.ghost_until and p.ghost or 0
  return call('ZCOUNT', ACTIVE, '(' .. whole(p.clock), '+inf') + ghosts
end
-- How many may enter now, and what holds the others: the strict meter of promise 1 and the cap of promise 2.
local function openings(p, s)
  if p.clock < p.recovering then return 0, 'recovering' end
  if s.paused == 1 then return 0, 'paused' end
  if p.now < s.opens_at then return 0, 'scheduled' end
  if s.closes_at > 0 and p.now >= s.closes_at then return 0, 'closed' end
  local active, permits, reason = active_count(p), math.floor(p.credit / UNIT), 'rate'
  if s.active_max - active < permits then permits, reason = s.active_max - active, 'cap' end
  if s.stock >= 0 and s.stock - active < permits then permits, reason = s.stock - active, 'stock' end
  return math.max(0, permits), reason
end
-- Calls of the last two seconds that have not led to a claim yet, from a ring of half-second buckets.
local function young_calls(p)
  local names, last = {}, p.bucket
  for b = last - 4, last do names[#names + 1] = 'c' .. b % 8; names[#names + 1] = 's' .. b % 8 end
  local row, young = call('HMGET', PACE, unpack(names)), 0
  for i = 1, #row, 2 do young = young + math.max(0, tonumber(row[i] or 0) - tonumber(row[i + 1] or 0)) end
  return young
end
