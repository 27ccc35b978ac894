-- When the room was last written to, as the writer stamped it.
-- ARGV  1 time
-- Returns: 'ok', the stamp in us.  Cost: 15 us.
local p = read_root()
if not p then return {'unknown'} end
return {'ok', call('HGET', PACE, 'at')}
