-- Creates the root of a new room, or makes one whole again from what a gateway remembers. Only this script writes where the root is
-- missing or was stamped by another server. Within an epoch counters take the maximum, so gateways that know different things may
-- report in any order; a lower epoch brings its settings only. Credit starts at 0. Data that end with the last write before their server
-- was stopped are whole: they go on under the new server as they are.
-- ARGV  1 time, 2 epoch, 3 highest number known (0: none), 4 passed, 5 room clock (0: never read a board), 6 active, 7 places last
--       counted, 8 admission epoch, 9 what the upstream reported, plus 1 (0: nothing), 10 stamp of that last write (0: not known),
--       11 number of the last event, 12 settings version, 13 base JSON, 14 overrides JSON, 15.. field, value of each limit
-- Returns: 'whole' (nothing to do), 'continued', 'made' (a new room) or 'healed'; epoch, next, us left of the hold.  Cost: 80 us.
local UNTIL_TIME, p, stamped = 2 ^ 53, read_pace()
local s, k, run = read_settings(), {}, run_id()
for i, name in ipairs({'epoch', 'highest', 'passed', 'clock', 'active', 'places', 'admission_epoch', 'reported', 'sealed', 'events', 'version'}) do k[name] = tonumber(ARGV[i + 1]) end
local is_new, is_continued, is_holding = not stamped, stamped and stamped ~= run and k.sealed > 0 and p.at == k.sealed, p.clock < p.recovering
local is_moved = is_new and k.clock > 0 or stamped and stamped ~= run and not is_continued -- who read a board knows that there was a room
local is_later, is_newer = k.epoch > math.max(1, p.epoch), k.version > s.version or s.version == 0
if k.epoch < p.epoch then k.highest, k.passed, k.active, k.places, k.clock = 0, 0, 0, 0, 0 end
if is_new then k.highest = math.max(k.highest, call('ZRANGE', QUEUE, -1, -1, 'WITHSCORES')[2] or 0) end -- places without a root
-- Raised: numbers were given, or passed, that this server does not know. `proven` is where a gap of this hold began.
local proven = math.max(1, is_holding and p.proven or p.next)
local is_raised = is_later or (k.highest >= proven) or k.passed > p.passed
local told, is_behind = math.max(is_holding and p.told or 0, active_count(p)), k.events >= math.max(1, math.abs(p.event)) -- who was told of may have left since; events whose numbers this server would give again
local is_more = is_holding and (k.active > told or (k.clock > 0 and k.passed >= p.passed and k.places > p.reseat_goal))
local is_whole, reported = not (is_new or is_moved or is_raised or is_newer or is_more or is_behind), is_newer and 0 or s.reported
begin_writes(); call('HSET', PACE, 'run', run)
if is_newer then
  call('HSET', SETTINGS, 'version', math.max(1, k.version), 'base', ARGV[13], 'overrides', ARGV[14], unpack(ARGV, 15)); call('HDEL', SETTINGS, 'reported') -- it was about the stock of older settings
end
if k.version >= s.version and k.reported > 0 and (reported == 0 or k.reported < reported) then call('HSET', SETTINGS, 'reported', k.reported) end
if is_whole then return {is_continued and 'continued' or 'whole', p.epoch, p.next, math.max(0, p.recovering - p.clock)} end
p.now = now_us()
p.heals = math.max(p.heals + 1, p.now) -- never the same twice, also after a server that lost it
p.at, p.clock, p.credit = p.now, math.max(p.clock, k.clock, is_new and 60 * SECOND or 0), 0
p.steady, p.tick_due, p.census_due, p.board = p.clock, 0, 0, math.max(p.board, math.floor(p.clock / 250000))
if is_later and not is_new then
  call('UNLINK', QUEUE, CALLED, DOOR, HELD, SPENT, RANKS)
  p.next, p.passed, p.swept, proven, p.slice = 0, 0, 0, 1, -1
end
p.epoch, p.admission_epoch = math.max(1, p.epoch, k.epoch), math.max(p.admission_epoch, k.admission_epoch)
local is_further, is_level = k.passed > p.passed, k.passed == p.passed
p.passed, p.proven = math.max(p.passed, k.passed), math.max(proven, k.highest + 1, k.passed + 1)
p.next = math.max(p.next, p.proven + ((is_raised or is_moved) and 9999 or 0)) -- gaps, never twins
s = is_newer and read_settings() or s
if is_new then p.rate_at, p.cut, p.event = p.clock, 1000, last_event() + 1 end
p.rate = is_new and s.rate or math.min(p.rate, s.rate)
local had = math.max(0, math.abs(p.event) - 1) -- the last event this server knows of; `known`: that anybody was told of
local known = math.max(had, k.events)
p.event = (known + 1 + ((known > 0 or is_raised) and (is_new or is_moved or known > had) and 9999 or 0)) * (s.audit > 0 and 1 or -1)
local slice, generation = math.floor(p.clock / (60 * SECOND)), math.floor(p.clock / s.absence_max)
if slice ~= p.slice then forget_marks(); p.present = 0 end -- old marks would count for new slices
p.slice, p.generation, p.bucket, p.swept = slice, generation, math.floor(p.clock / (SECOND / 2)), 0
p.ghost, p.told = p.clock < p.ghost_until and p.ghost or 0, math.max(told, k.active)
if k.active > told then p.ghost, p.ghost_until, p.ghost_at = p.ghost + k.active - told, p.clock + s.session, p.now end
-- A new room opens at once; what lost nothing holds 2 s; a loss holds one presence window, or until as many are seated as were counted.
local is_lost, goal = is_holding and p.reseat_goal < UNTIL_TIME, k.clock > 0 and k.places or -1
p.reseat_goal = is_lost and (is_further and goal or is_level and math.max(p.reseat_goal, goal) or p.reseat_goal) or is_raised and goal or UNTIL_TIME
p.recovering = math.max(p.recovering, p.clock + (is_raised and 120 or (is_moved or is_newer and not is_new) and 2 or 0) * SECOND)
tell(p, 'heal', listed({had, known, (is_raised or is_moved) and 1 or 0, p.next, p.passed, p.recovering - p.clock, active_count(p), s.rate, s.burst, s.active_max, s.paused}))
save(p, 'event', 'epoch', 'next', 'passed', 'rate', 'slice', 'generation', 'recovering', 'joins', 'entries', 'admission_epoch', 'rate_at', 'cut', 'bucket',
  'swept', 'tick_due', 'census_due', 'board', 'proven', 'ghost', 'ghost_until', 'ghost_at', 'told', 'reseat_goal', 'heals') -- first what is read most
for b = 0, 7 do call('HSET', PACE, 'c' .. b, 0, 's' .. b, 0) end
return {is_new and not is_raised and k.version == 0 and 'made' or 'healed', p.epoch, p.next, p.recovering - p.clock}
