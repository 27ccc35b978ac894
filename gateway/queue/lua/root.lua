-- What all transitions share: the root of the room, and its arithmetic. `scripts.py` puts of this before each script what it calls,
-- and before that the keys it names, with `read_pace` and `read_settings`, which read the fields it names (p.passed, s.burst).
-- KEYS  those of these that are named, in this order: pace, settings, queue, called, door, held, active, revoked, seen:0..2, kept:0..2,
--       spent, board, ranks, arrivals, entered, audit
-- ARGV  1 time in microseconds, or '' for the server's own
-- Returns nothing itself.  Cost: 20 us: INFO server 3.5 us, TIME 1.5 us, two HMGET 8 us, save 4 us, the functions themselves 1 us.
local UNIT, SECOND, SEEN_MODULUS = 3600000000, 1000000, 8388608
local call = redis.call
local function whole(x) return string.format('%.0f', x) end -- for fractions, and for `..`, which cuts a stamp to 14 digits; a call does not
local function now_us()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local time = call('TIME')
  return time[1] * SECOND + time[2]
end
local function run_id() return string.match(call('INFO', 'server'), 'run_id:(%x+)') end
-- Whether this very server wrote the root: asked anew by every script, so that no connection can carry the answer to another server.
local function is_of_this_server(run) return run and string.find(call('INFO', 'server'), 'run_id:' .. run .. '\r\n', 1, true) end
-- The root and the limits in force, with the room's clock, credit and time brought up to now; nil where this server must not be
-- written to. A stall, a step of the clock or a fail-over adds nothing to the clock, and so earns no credit.
local function read_root()
  local p, run = read_pace()
  if not is_of_this_server(run) then return nil end
  local s = read_settings()
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
  local row, names = {'clock', p.clock, 'at', p.at, 'credit', p.credit, 'steady', p.steady, 'present', p.present}, {...}
  for i, name in ipairs(names) do
    local value = p[name]
    row[9 + 2 * i], row[10 + 2 * i] = name, value % 1 == 0 and value or whole(value) -- the call writes whole numbers as they are
  end
  call('HSET', PACE, unpack(row))
end
local function push(list, a, b, c) -- one to three values; returns true, so that an answer can be the end of a function
  local n = #list
  list[n + 1], list[n + 2], list[n + 3] = a, b, c
  return true
end
-- The number of the last event of the record that is there, where the root that counts them is gone.
local function last_event()
  local last = redis.pcall('XREVRANGE', AUDIT, '+', '-', 'COUNT', 1)[1]
  return tonumber(string.match(last and last[1] or '0', '^%d+'))
end
-- Figures and lists of whole numbers as an event has them, each ended by ';'.
local function listed(...)
  local parts = {...}
  for i, list in ipairs(parts) do parts[i] = list[1] and table.concat(list, ' ') or '' end
  parts[#parts + 1] = ''
  return table.concat(parts, ';')
end
-- One event of the room's record, at most one a call: kind, number, Redis' time, the room's clock, epoch, then what `rules/events.py`
-- has for the kind. `p.event` is the number of the next one, below 1 where no record is kept; it is the event's id in the stream,
-- so a missing one shows. What cannot be written ('!') stops no room. `event` goes along with the answer (`scripts.py`).
local function tell(p, kind, body, a, b, c, d)
  if p.event < 1 then return end
  local ids, others = a and table.concat(a) or '', b and table.concat(b) or ''
  if c then others = others .. table.concat(c) .. (d and table.concat(d) or '') end
  event = string.format('%s %d %d %d %d ', kind, p.event, p.now, p.clock, p.epoch) .. body .. ids .. others
  if type(redis.pcall('XADD', AUDIT, p.event, 'e', event)) == 'table' then event = '!' .. event end
  p.event = p.event + 1
end
-- Tells of joins: `seats` are number and id in turn, of newcomers (numbers from `first` on) and of those seated again,
-- `recalled` time and id. Where the whole batch is new, which is what a flood is, `ids` says it all.
local function tell_joins(p, first, ids, seats, recalled, replaced)
  local count = p.next - first
  if count == #ids then return tell(p, 'join', string.format('%d %d;;;', first, count), ids) end
  local new, back, numbers = {}, {}, {}
  for i = 1, #seats, 2 do
    local is_new = seats[i] >= first
    push(is_new and new or back, seats[i + 1])
    if not is_new then push(numbers, seats[i]) end
  end
  for i = 2, #recalled, 2 do push(back, recalled[i]) end
  tell(p, 'join', listed({first, count}, numbers, replaced), new, back)
end
-- Cuts the oldest off the record where it takes more than `s.audit` bytes: whole nodes of the stream, of 4 KiB or an event each. Where
-- MEMORY is forbidden an event counts as 256 bytes.
local function trim_record(s)
  local length, used = redis.pcall('XLEN', AUDIT), redis.pcall('MEMORY', 'USAGE', AUDIT, 'SAMPLES', 8000)
  if type(length) == 'table' then return end
  if type(used) ~= 'number' then used = 256 * length end
  if used > s.audit then redis.pcall('XTRIM', AUDIT, 'MAXLEN', '~', math.floor(length * s.audit / used)) end
end
local function is_refused(key, ...) return type(redis.pcall('ZADD', key, ...)) == 'table' end
-- When an entry made now counts from, in us: tokens know whole seconds, and the second in which an id was released is over for it.
local function entry_us(p, id)
  local released = tonumber(call('ZSCORE', REVOKED, id) or '')
  return math.max(p.now, released and (math.floor(released / SECOND) + 1) * SECOND or 0)
end
-- Microseconds of the slot this id holds and the second it entered, as "lease entered"; nil without a slot.
local function lease_left(p, id, until_us)
  local lease = tonumber(until_us or call('ZSCORE', ACTIVE, id) or '')
  if not lease or lease <= p.clock then return nil end
  return whole(lease - p.clock) .. ' ' .. whole(math.floor((call('ZSCORE', ENTERED, id) or p.now) / SECOND))
end
local function is_spent(number) return call('GETBIT', SPENT, number) == 1 end
local function is_present(p, number)
  local bit = number % SEEN_MODULUS
  return call('GETBIT', SEEN[p.slice % 3], bit) == 1 or call('GETBIT', SEEN[(p.slice - 1) % 3], bit) == 1
end
local function mark(p, number) -- heard from: present in this slice, kept for this generation
  local bit = number % SEEN_MODULUS
  if call('SETBIT', SEEN[p.slice % 3], bit, 1) == 0 and call('GETBIT', SEEN[(p.slice - 1) % 3], bit) == 0 then
    p.present = p.present + 1
  end
  call('SETBIT', KEPT[p.generation % 3], bit, 1)
end
-- The same for numbers given just now, which follow one another: 32 bits a step, and none of them set before.
local function mark_new(p, first, last)
  local steps, number = {}, first
  while number <= last do
    local bit = number % SEEN_MODULUS
    local width = math.min(32, last - number + 1, SEEN_MODULUS - bit)
    push(steps, 'SET', 'u' .. width, bit); push(steps, 2 ^ width - 1)
    number = number + width
  end
  for _, key in ipairs(#steps > 0 and {SEEN[p.slice % 3], KEPT[p.generation % 3]} or {}) do call('BITFIELD', key, unpack(steps)) end
  p.present = p.present + last - first + 1
end
local function spend(p, number) -- used or given up: never seated again, and not counted among the present
  local bit, had = number % SEEN_MODULUS, 0
  for slice = p.slice - 1, p.slice do had = had + call('SETBIT', SEEN[slice % 3], bit, 0) end
  if had > 0 then p.present = math.max(0, p.present - 1) end
  call('SETBIT', SPENT, number, 1)
end
local function remove(p, id, number) -- a place out of the queue, and its number spent
  call('ZREM', QUEUE, id)
  spend(p, number)
end
local function forget_marks() call('UNLINK', SEEN[0], SEEN[1], SEEN[2], KEPT[0], KEPT[1], KEPT[2]) end
local function active_count(p)
  local ghosts = p.clock < p.ghost_until and p.ghost or 0
  return call('ZCOUNT', ACTIVE, '(' .. whole(p.clock), '+inf') + ghosts
end
-- How many may enter now, what holds the others, and the slots taken if that was counted: the meter of promise 1, the cap of promise 2.
local function openings(p, s)
  if p.clock < p.recovering then return 0, 'recovering' end
  if s.paused == 1 then return 0, 'paused' end
  if p.now < s.opens_at then return 0, 'scheduled' end
  if s.closes_at > 0 and p.now >= s.closes_at then return 0, 'closed' end
  local active, permits, reason = active_count(p), math.floor(p.credit / UNIT), 'rate'
  if s.active_max - active < permits then permits, reason = s.active_max - active, 'cap' end
  if s.stock >= 0 and s.stock - active < permits then permits, reason = s.stock - active, 'stock' end
  return math.max(0, permits), reason, active
end
-- Calls of the last two seconds that have not led to a claim yet, from a ring of half-second buckets.
local function young_calls(p)
  local names, last = {}, p.bucket
  for b = last - 4, last do names[#names + 1] = 'c' .. b % 8; names[#names + 1] = 's' .. b % 8 end
  local row, young = call('HMGET', PACE, unpack(names)), 0
  for i = 1, #row, 2 do young = young + math.max(0, tonumber(row[i] or 0) - tonumber(row[i + 1] or 0)) end
  return young
end
