-- Renew the lease of an incarnation, by the server's own clock.
-- KEYS: nodes; ARGV: incarnation, ttl in ms
-- Returns: 1 if the lease stood, 0 if it is a new one
local now = redis.call("TIME")
local expiry = now[1] * 1000 + math.floor(now[2] / 1000) + tonumber(ARGV[2])
return 1 - redis.call("ZADD", KEYS[1], string.format("%d", expiry), ARGV[1])
