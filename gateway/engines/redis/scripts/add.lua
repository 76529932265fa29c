-- Enter a client under our incarnation.
-- KEYS: presence, users, owned
-- ARGV: pub/sub channel, client, incarnation, user, blob, member of owned, 1 = announce
-- Returns: 1 if the client was not there
local presence, users, owned = KEYS[1], KEYS[2], KEYS[3]
local channel, client, incarnation, user, blob, member, tell = unpack(ARGV)

local old = redis.call("HGET", presence, client)
redis.call("HSET", presence, client, string.format("%d:%d:", #incarnation, #user) .. incarnation .. user .. blob)
redis.call("SADD", owned, member)
if old then
  local _, old_user = parse(old)
  if old_user ~= user then
    count(users, old_user, -1)
    count(users, user, 1)
  end
  return 0
end
local n = count(users, user, 1)
if tell == "1" then
  announce(channel, "j", n == 1, blob)
end
return 1
