-- Writes the settings if nobody else did meanwhile: the published base, the operators' overrides and the limits that follow.
-- ARGV  1 time, 2 version this change was computed from, 3 base as JSON, 4 overrides as JSON, 5 '1' where the operator
--       named the stock: what the upstream reported before is over, whether or not the figure is another, 6 who asked; then field, value of each limit
-- Returns: 'ok' or 'conflict', the version now in force.  Cost: 30 us.
local p, s = read_root()
if not p then return {'unknown'} end
if s.version ~= tonumber(ARGV[2]) then
  local row = call('HMGET', SETTINGS, 'base', 'overrides') -- a retry whose first answer was lost finds its own words there
  local is_done = s.version == ARGV[2] + 1 and row[1] == ARGV[3] and row[2] == ARGV[4]
  return {is_done and 'ok' or 'conflict', s.version}
end
begin_writes()
local stock = call('HGET', SETTINGS, 'stock')
call('HSET', SETTINGS, 'version', whole(s.version + 1), 'base', ARGV[3], 'overrides', ARGV[4], unpack(ARGV, 7))
if ARGV[5] == '1' or call('HGET', SETTINGS, 'stock') ~= stock then call('HDEL', SETTINGS, 'reported') end -- the operators' word is newer
s = read_settings()
if s.audit == 0 then p.event = -math.abs(p.event) end
if s.audit > 0 and p.event < 1 then p.event = 1 - p.event end -- nothing was told until now: a gap says so
if s.rate < p.rate then p.rate = s.rate end
p.census_due = 0 -- the next board says so
tell(p, 'settings', listed({s.rate, s.burst, s.active_max, s.paused, s.stock, s.version}) .. ARGV[6])
save(p, 'rate', 'census_due', 'event')
return {'ok', s.version}
