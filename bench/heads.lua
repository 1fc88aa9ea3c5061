-- Requests with heads of as many bytes as the field Head-Bytes says, which is not sent itself. No two of 2,048 are
-- alike, in their targets and in one field, so that none is found in a cache of heads. Fields have 1,000 bytes at most:
-- of a longer line some servers make an error.

dofile(debug.getinfo(1, "S").source:match("^@(.*)heads%.lua$") .. "totals.lua")

local DISTINCT = 2048
local FIELD_BYTES = 1000

local requests = {}
local turn = 0

local function head(number, bytes, host)
  local text = string.format("GET /%06d HTTP/1.1\r\nHost: %s\r\n", number, host)
  local count = 0
  local left = bytes - #text - 2
  while left > 0 do
    local size = math.min(left, FIELD_BYTES)
    -- A rest too short for a field of its own: this one leaves it more.
    if left > size and left - size < 20 then
      size = size - 20
    end
    local name = string.format("X-%02d: %06d", count, number)
    text = text .. name .. string.rep("x", size - #name - 2) .. "\r\n"
    left = left - size
    count = count + 1
  end
  return text .. "\r\n"
end

function init(args)
  local bytes = tonumber(wrk.headers["Head-Bytes"])
  for i = 1, DISTINCT do
    requests[i] = head(i, bytes, wrk.headers["Host"])
  end
end

function request()
  turn = turn % DISTINCT + 1
  return requests[turn]
end
