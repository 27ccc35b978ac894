-- Ends admissions: their slots are free at once, and every gateway refuses what was issued up to now.
-- ARGV  1 time; then for each of <= 500: id, us of the entry it ends ('' = whatever was entered up to now)
-- Returns: 'ok', how many held a slot.  Cost: 4 us each.
-- Each release gets a stamp of its own, ever higher, so that a reader who goes on behind the newest it has misses none. A
-- retry finds the admission ended and leaves alone what was entered since.
local p = read_root()
if not p then return {'unknown'} end
local freed, names = 0, {}
begin_writes()
for i = 2, #ARGV, 2 do
  local id, entered, released = ARGV[i], tonumber(ARGV[i + 1]), tonumber(call('ZSCORE', REVOKED, ARGV[i]) or '')
  if not (entered and released and entered <= released) then
    -- The stamp covers the entry, also one that counts from the next second only.
    local since = math.min(tonumber(call('ZSCORE', ENTERED, id) or '') or 0, p.now + 2 * SECOND)
    local had = call('ZREM', ACTIVE, id)
    call('ZREM', ENTERED, id)
    if had == 0 and p.ghost > 0 and not released then p.ghost = p.ghost - 1 end
    p.release_seq = math.max(p.release_seq + 1, p.now, since)
    call('ZADD', REVOKED, whole(p.release_seq), id)
    freed = freed + had
    push(names, id)
  end
end
if #names > 0 then tell(p, 'release', listed({freed}), names) end
save(p, 'release_seq', 'ghost', 'event')
return {'ok', freed}
