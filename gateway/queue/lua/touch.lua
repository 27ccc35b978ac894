-- Extends the leases of admissions that were used, and gives back the slot of one that had lapsed. Never shortens one: an admission of
-- an earlier entry may still be in use, and is bound to an earlier end.
-- ARGV  1 time; then for each of <= 500: id, epoch of the admission, us of its entry
-- Returns for each: us of lease, or 0 when the admission was ended. No lease goes beyond entry + session_max.  Cost: 5 us each.
local p, s = read_root()
if not p then return {'unknown'} end
local answer, names = {}, {}
begin_writes()
for i = 2, #ARGV, 3 do
  local released = tonumber(call('ZSCORE', REVOKED, ARGV[i]) or '')
  if tonumber(ARGV[i + 1]) < p.admission_epoch or (released and tonumber(ARGV[i + 2]) <= released) then
    answer[#answer + 1] = 0
  else
    local lease = math.max(0, math.min(s.session, tonumber(ARGV[i + 2]) + s.session_max - p.now))
    if lease > 0 then call('ZADD', ENTERED, 'NX', ARGV[i + 2], ARGV[i]) end -- without a slot nothing would remove it again
    local had = tonumber(call('ZSCORE', ACTIVE, ARGV[i]) or '') or 0
    if lease > 0 and had <= p.clock then push(names, ARGV[i]) end -- its slot had lapsed
    local is_new = lease > 0 and call('ZADD', ACTIVE, 'GT', p.clock + lease, ARGV[i]) or 0
    -- One of those who were counted before the loss is known again; who entered since was never among them.
    if is_new == 1 and p.ghost > 0 and tonumber(ARGV[i + 2]) <= p.ghost_at then p.ghost = p.ghost - 1 end
    answer[#answer + 1] = lease
  end
end
if #names > 0 then tell(p, 'back', '', names) end
save(p, 'ghost', 'event')
return answer
