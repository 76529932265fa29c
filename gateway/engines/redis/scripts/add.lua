-- Enter a client under our incarnation, whose lease must stand: what nobody renews would never be reaped.
-- KEYS: presence, users, owned, nodes
-- ARGV: pub/sub channel, client, incarnation, user, blob, member of owned, 1 = announce
-- Returns: 1 if the client was not there, 0 if it was, -1 if the lease has ended: nothing happened
local presence, users, owned, nodes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local channel, client, incarnation, user, blob, member, tell = unpack(ARGV)

if not redis.call("ZSCORE", nodes, incarnation) then
  return -1
end
local holder, old_user = parse(redis.call("HGET", presence, client))
if holder and (ahead(holder, incarnation) or 0) > 0 then
  return 0 -- we come late, over a connection that is long gone; the node has entered this client anew
end
redis.call("HSET", presence, client, store(incarnation, user, tell, blob))
redis.call("SADD", owned, member)
if holder then
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
