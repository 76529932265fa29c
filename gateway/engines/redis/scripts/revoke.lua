-- Keep revocations in a sorted set, by the Unix second of their end; what has ended goes.
-- KEYS: revoked
-- ARGV: how many are kept at most, seconds after which the whole set goes unless something is added,
--       then end and revocation, again and again
-- Returns: by how many there are more now
local SLACK = 60 -- seconds that the clocks of nodes may be behind
local revoked, added = KEYS[1], 0
local horizon = tonumber(redis.call("TIME")[1]) - SLACK
redis.call("ZREMRANGEBYSCORE", revoked, "-inf", horizon)
for i = 3, #ARGV, 2 do
  if tonumber(ARGV[i]) > horizon then
    added = added + redis.call("ZADD", revoked, ARGV[i], ARGV[i + 1])
  end
end
if added > 0 then
  added = added - redis.call("ZREMRANGEBYRANK", revoked, 0, -1 - tonumber(ARGV[1])) -- those that end soonest
  redis.call("EXPIRE", revoked, ARGV[2])
end
return added
