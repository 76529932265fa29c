-- Count connections and users in one step. KEYS: presence, users
return { redis.call("HLEN", KEYS[1]), redis.call("HLEN", KEYS[2]) }
