-- Take a client out, if it is there under this incarnation or an earlier one of the same node.
-- KEYS: presence, users, owned
-- ARGV: pub/sub channel, client, incarnation, member of owned, 1 = announce
-- Returns: 1 if it was there
local presence, users, owned = KEYS[1], KEYS[2], KEYS[3]
local channel, client, incarnation, member, tell = unpack(ARGV)

redis.call("SREM", owned, member)
local holder, user, blob = parse(redis.call("HGET", presence, client))
if not holder or (ahead(incarnation, holder) or -1) < 0 then
  return 0
end
redis.call("HDEL", presence, client)
local n = count(users, user, -1)
if tell == "1" then
  announce(channel, "l", n <= 0, blob)
end
return 1
