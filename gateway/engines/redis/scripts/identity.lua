-- Shared by every script that touches a stream: the only place that reads and makes a stream's identity.
-- The meta hash holds `e`, the epoch, and `s`, the top offset. It outlives the stream; when it is gone (evicted,
-- expired, flushed) what is left of the stream belongs to nobody and goes too.
local function identity(meta, stream, candidate, meta_ttl)
  local known = redis.call("HMGET", meta, "e", "s")
  local epoch, top = known[1], tonumber(known[2] or "0")
  if not epoch then
    epoch, top = candidate, 0
    redis.call("DEL", stream, meta)
    redis.call("HSET", meta, "e", epoch)
  end
  if meta_ttl ~= "0" then
    redis.call("PEXPIRE", meta, meta_ttl)
  end
  return epoch, top
end
