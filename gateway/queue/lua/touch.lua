-- Extends the leases of admissions that were used, and gives back the slot of one that had lapsed.
-- ARGV  1 time; then for each of <= 500: id, epoch of the admission, time of its issue in us
-- Returns for each: us of lease, or 0 when the admission was ended.  Cost: 4 us each.
local p, s = read_root()
if not p then return {'unknown'} end
local answer = {}
begin_writes()
for i = 2, #ARGV, 3 do
  local released = tonumber(call('ZSCORE', REVOKED, ARGV[i]) or '')
  if tonumber(ARGV[i + 1]) < p.admission_epoch or (released and tonumber(ARGV[i + 2]) <= released) then
    answer[#answer + 1] = 0
  else
    local is_new = call('ZADD', ACTIVE, whole(p.clock + s.session), ARGV[i])
    -- One of those who were counted before the loss is known again; what was issued since was never among them.
    if is_new == 1 and p.ghost > 0 and tonumber(ARGV[i + 2]) <= p.ghost_at then p.ghost = p.ghost - 1 end
    answer[#answer + 1] = s.session
  end
end
save(p, 'ghost')
return answer
