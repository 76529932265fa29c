-- Publish once, keep, and fan out in one atomic step, so that the order in the stream is the order on the channel.
-- Fanning out comes last: a server that takes no writes (full, without replicas, a replica itself) refuses what comes
-- before it, and an error means that nobody got it; with a result after it, each repetition would be delivered again.
-- KEYS: stream, meta, result of the idempotency key, salt (may be absent)
-- ARGV: pub/sub channel, blob, history size (0 = none), history ttl, meta ttl, candidate epoch,
--       ttl of the result (0 = no idempotency key); all ttl in ms, 0 = for ever
-- Returns: offset (0 without history), epoch, 1 if it was known already, receivers
local stream, meta, result, salt = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local channel, blob, size, ttl, meta_ttl, candidate, result_ttl = unpack(ARGV)

if result_ttl ~= "0" then
  local known = redis.call("HMGET", result, "s", "e")
  if known[1] then
    return { tonumber(known[1]), known[2], 1, 0 }
  end
end

local epoch, offset = "", 0
if size ~= "0" then
  epoch = identity(meta, stream, salt, candidate)
  offset = redis.call("HINCRBY", meta, "s", 1)
  if offset == 1 then
    redis.call("DEL", stream)
  end
  redis.call("XADD", stream, "MAXLEN", "=", size, string.format("%d-0", offset), "d", blob)
  live(stream, ttl)
  live(meta, meta_ttl)
end

if result_ttl ~= "0" then
  redis.call("HSET", result, "s", offset, "e", epoch)
  live(result, result_ttl)
end
local receivers = redis.call(PUBLISH, channel, string.format("1:%d:%s:", offset, epoch) .. blob)
return { offset, epoch, 0, receivers }
