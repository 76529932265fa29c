-- End a lease before its time. If entries are left the lease runs out instead, so that somebody reaps them.
-- KEYS: nodes, owned; ARGV: incarnation
if redis.call("EXISTS", KEYS[2]) == 0 then
  redis.call("ZREM", KEYS[1], ARGV[1])
end
return 1
