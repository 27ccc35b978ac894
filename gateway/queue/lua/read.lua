-- What a gateway reads every 250 ms: the board, and the parts that changed since it read last. Writes nothing.
-- ARGV  1 time, 2 version of the ranks it has, 3 version of the settings it has, 4 stamp of the newest release it has; then field names
-- Returns: 'ok', now in us, ranks or '', settings (base, overrides, version) or {}, releases (id, us)..., then the fields.
-- Cost: 20 us; 70 us with ranks at 1 M waiting.
local p, s = read_root()
if not p then return {'unknown'} end
local ranks, settings = '', {}
if call('HGET', BOARD, 'ranks') ~= ARGV[2] then ranks = call('GET', RANKS) or '' end
if s.version ~= tonumber(ARGV[3]) then settings = call('HMGET', SETTINGS, 'base', 'overrides', 'version') end
local releases = call('ZRANGEBYSCORE', REVOKED, '(' .. ARGV[4], '+inf', 'WITHSCORES', 'LIMIT', 0, 500)
return {'ok', whole(p.now), ranks, settings, releases, call('HMGET', BOARD, unpack(ARGV, 5))}
