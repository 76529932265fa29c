-- Renew a node's leases by the server's own clock, and look for those of others that have run out.
-- KEYS: nodes
-- ARGV: ttl in ms, how many overdue ones to return, incarnation ("" = none), 1 = it begins here,
--       earlier incarnations that are not cleaned up yet
-- Returns: {1 if the lease stood or began, 0 if there was none, -1 if it had run out; overdue incarnations}
local nodes = KEYS[1]
-- A write that changes nothing comes first. A full server refuses only the first write of a script and only if it can
-- grow memory, so that leases can be renewed there too; and who cannot write must not learn who is overdue: nobody
-- could renew then, and the living would look dead.
redis.call("ZREM", nodes, "")
local now = milliseconds()
local expiry = string.format("%d", now + tonumber(ARGV[1]))
local incarnation, begins = ARGV[3], ARGV[4]

local stood = 1
if begins == "1" then
  redis.call("ZADD", nodes, expiry, incarnation)
elseif incarnation ~= "" then
  local score = redis.call("ZSCORE", nodes, incarnation)
  if not score then
    stood = 0
  else
    stood = tonumber(score) < now and -1 or 1
    redis.call("ZADD", nodes, expiry, incarnation)
  end
end
for i = 5, #ARGV do
  redis.call("ZADD", nodes, "XX", expiry, ARGV[i])
end
local limit = string.format("(%d", now)
return { stood, redis.call("ZRANGEBYSCORE", nodes, "-inf", limit, "LIMIT", 0, ARGV[2]) }
