-- Read publications and the top in one atomic step.
-- KEYS: stream, meta, salt (may be absent)
-- ARGV: candidate epoch, meta ttl in ms (0 = leave as it is), limit (0 = none, -1 = all),
--       first and last id, 1 = newest first
-- Returns: epoch, top, entries
local stream, meta, salt = KEYS[1], KEYS[2], KEYS[3]
local candidate, meta_ttl, limit, first, last, newest_first = unpack(ARGV)

local epoch, top = identity(meta, stream, salt, candidate)
if meta_ttl ~= "0" then
  -- Who cannot write now (NOREPLICAS, MISCONF) can still be read; a primary that was demoted is to be found out.
  local kept = redis.pcall("PEXPIRE", meta, meta_ttl)
  if type(kept) == "table" and string.sub(kept.err, 1, 8) == "READONLY" then
    return kept
  end
end
if limit == "0" then
  return { epoch, top, {} }
end
local read = { "XRANGE", stream, first, last }
if newest_first == "1" then
  read = { "XREVRANGE", stream, last, first }
end
if limit ~= "-1" then
  read[5], read[6] = "COUNT", limit
end
return { epoch, top, redis.call(unpack(read)) }
