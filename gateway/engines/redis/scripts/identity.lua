-- Shared by every script that touches a stream: the only place that reads and makes a stream's identity.
-- The meta hash holds `e`, the epoch, and `s`, the top offset. It outlives the stream; when it is gone (evicted,
-- expired, flushed) what is left of the stream belongs to nobody and goes too.
--
-- A full server refuses only the first write of a script, and only if it can grow memory: so HSET comes before DEL here,
-- and callers set lifetimes last. Otherwise a full server would take every publication.
local function identity(meta, stream, candidate)
  local known = redis.call("HMGET", meta, "e", "s")
  local epoch, top = known[1], tonumber(known[2] or "0")
  if not epoch then
    epoch, top = candidate, 0
    redis.call("HSET", meta, "e", epoch, "s", 0)
    redis.call("DEL", stream)
  end
  return epoch, top
end

local function live(key, ttl)
  if ttl ~= "0" then
    redis.call("PEXPIRE", key, ttl)
  end
end
