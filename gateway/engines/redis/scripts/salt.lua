-- Note which server the data lie on, so that what another one wrote is not gone on with; then send a node its probe.
-- A server that was restarted or promoted may have lost writes that were acknowledged, and would use offsets again.
-- KEYS: salt, a hash: `r` run_id of the server, `n` the salt, another each time `r` is another
-- ARGV: candidate salt, pub/sub channel of the probe ("" = none), probe, run_id of the living server that handed the
--       data over whole ("" = none): what that one wrote is gone on with
-- Returns: 1 if another server was here before
local salt = KEYS[1]
local candidate, channel, probe, origin = unpack(ARGV)

local here = string.match(redis.call("INFO", "server"), "run_id:(%w+)") or ""
local known, begun = redis.call("HGET", salt, "r"), 0
if known and known == origin then
  candidate = redis.call("HGET", salt, "n")
end
if known == here then
  -- A write that changes nothing: a primary that was demoted answers READONLY. That others are refused is no news here.
  local wrote = redis.pcall("PERSIST", salt)
  if type(wrote) == "table" and string.sub(wrote.err, 1, 8) == "READONLY" then
    return wrote
  end
else
  begun = known and known ~= origin and 1 or 0
  local wrote = redis.pcall("HSET", salt, "r", here, "n", candidate)
  if type(wrote) == "table" and string.sub(wrote.err, 1, 3) ~= "OOM" then
    return wrote
  elseif type(wrote) == "table" then
    redis.call("DEL", salt) -- full: without any salt, too, no stream of before is gone on with
  end
end
if channel ~= "" then
  redis.call(PUBLISH, channel, probe)
end
return begun
