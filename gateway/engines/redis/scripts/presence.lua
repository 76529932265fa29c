-- Shared by the scripts of presence: what is stored for a client is `<length of incarnation>:<length of user>:` and
-- then incarnation, user and blob, end to end.
local function parse(value)
  local a, b, start = string.match(value, "^(%d+):(%d+):()")
  local user_at = start + tonumber(a)
  local blob_at = user_at + tonumber(b)
  return string.sub(value, start, user_at - 1), string.sub(value, user_at, blob_at - 1), string.sub(value, blob_at)
end

local function count(users, user, by)
  local n = redis.call("HINCRBY", users, user, by)
  if n <= 0 then
    redis.call("HDEL", users, user)
  end
  return n
end

local function announce(channel, kind, edge, blob)
  redis.call("PUBLISH", channel, string.format("1%s:%d::", kind, edge and 1 or 0) .. blob)
end
