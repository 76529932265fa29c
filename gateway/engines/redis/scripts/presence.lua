-- Shared by the scripts of presence. What is stored for a client is
-- `<length of incarnation>:<length of user>:<1 = joins and leaves are announced>:` and then incarnation, user and blob,
-- end to end. An incarnation is `<node>.<number>`; the higher number is the later one.
local function store(incarnation, user, tell, blob)
  return string.format("%d:%d:%s:", #incarnation, #user, tell) .. incarnation .. user .. blob
end

-- Returns incarnation, user, blob, whether to announce; nothing if it is not ours.
local function parse(value)
  local a, b, tell, start = string.match(value or "", "^(%d+):(%d+):([01]):()")
  if not a then
    return nil
  end
  local user_at = start + tonumber(a)
  local blob_at = user_at + tonumber(b)
  local incarnation, user = string.sub(value, start, user_at - 1), string.sub(value, user_at, blob_at - 1)
  return incarnation, user, string.sub(value, blob_at), tell == "1"
end

-- Returns how far an incarnation is ahead of another one of the same node; nothing if the nodes differ.
local function ahead(one, other)
  local node, number = string.match(one, "^(.*)%.(%d+)$")
  local other_node, other_number = string.match(other, "^(.*)%.(%d+)$")
  if node and node == other_node then
    return tonumber(number) - tonumber(other_number)
  end
end

local function count(users, user, by)
  local n = redis.call("HINCRBY", users, user, by)
  if n <= 0 then
    redis.call("HDEL", users, user)
  end
  return n
end

local function announce(channel, kind, edge, blob)
  redis.call(PUBLISH, channel, string.format("1%s:%d::", kind, edge and 1 or 0) .. blob)
end

local function milliseconds()
  local now = redis.call("TIME")
  return now[1] * 1000 + math.floor(now[2] / 1000)
end
