-- Take out some of what an incarnation has left behind, then its lease. Any number of nodes may do so at once.
-- The keys of a channel are built here, from the members of owned: all lie in the partition of the keys that are named.
-- KEYS: nodes, owned
-- ARGV: incarnation, how many entries at most, beginnings of: pub/sub channels, presence, users;
--       1 = asked by the node itself, which is at a later incarnation: run out or not
-- Returns: {1 if there is more, 0 if nothing is left, -1 if the lease stands again; entries taken out}
local nodes, owned = KEYS[1], KEYS[2]
local incarnation, limit, channels, presences, counts, own = unpack(ARGV)

local expiry = redis.call("ZSCORE", nodes, incarnation)
if own ~= "1" and expiry and tonumber(expiry) >= milliseconds() then
  return { -1, 0 }
end
local taken = 0
for _, member in ipairs(redis.call("SPOP", owned, limit)) do
  local client, channel = string.match(member, "^(%S+) (.*)$")
  if client then
    local presence = presences .. channel
    local holder, user, blob, tell = parse(redis.call("HGET", presence, client))
    if holder == incarnation then
      redis.call("HDEL", presence, client)
      local n = count(counts .. channel, user, -1)
      if tell then
        announce(channels .. channel, "l", n <= 0, blob)
      end
      taken = taken + 1
    end
  end
end
if redis.call("EXISTS", owned) == 1 then
  return { 1, taken }
end
redis.call("ZREM", nodes, incarnation)
return { 0, taken }
