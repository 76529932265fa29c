-- Shared by every script that touches a stream: the only place that reads and makes a stream's identity.
-- The meta hash holds `e`, the epoch, `s`, the top offset, and `r`, the salt under which the epoch was begun. It outlives
-- the stream; when it is gone (evicted, expired, flushed), or the partition's salt is another one by now (see salt.lua),
-- what is left of the stream belongs to nobody and goes too. `salt` is nil where salts are not looked at.
--
-- A full server refuses only the first write of a script, and only if it can grow memory: so HSET comes before DEL here,
-- and callers set lifetimes last. Otherwise a full server would take every publication.
-- A salt that is gone (flushed, evicted) is made here and not by the next probe, which would end what has begun since.
local function current(salt, candidate)
  local known = redis.call("HGET", salt, "n")
  if not known then
    known = candidate
    redis.call("HSET", salt, "r", string.match(redis.call("INFO", "server"), "run_id:(%w+)") or "", "n", known)
  end
  return known
end

local function identity(meta, stream, salt, candidate)
  local known = redis.call("HMGET", meta, "e", "s", "r")
  local epoch, top = known[1], tonumber(known[2] or "0")
  local now = salt and current(salt, candidate)
  if not epoch or (now and now ~= known[3]) then
    epoch, top = candidate, 0
    redis.call("HSET", meta, "e", epoch, "s", 0, "r", now or "")
    redis.call("DEL", stream)
  end
  return epoch, top
end

local function live(key, ttl)
  if ttl ~= "0" then
    redis.call("PEXPIRE", key, ttl)
  end
end
