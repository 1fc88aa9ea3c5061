-- Requests as a browser sends them, about 670 bytes a head, of which no two are alike: target, referrer and
-- cookie vary. They are built once, before the clock runs, and sent in turn; there are more of them than a
-- small cache of heads can hold, so that every one has to be parsed.

dofile(debug.getinfo(1, "S").source:match("^@(.*)browser%.lua$") .. "totals.lua")

local DISTINCT = 8192

local requests = {}
local turn = 0

function init(args)
  math.randomseed(20)
  local host = wrk.headers["Host"]
  local same_fields = table.concat({
    "Connection: keep-alive",
    'sec-ch-ua: "Chromium";v="130", "Not?A_Brand";v="99"',
    "sec-ch-ua-mobile: ?0",
    'sec-ch-ua-platform: "Linux"',
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Dest: document",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
    "",
  }, "\r\n")
  for i = 1, DISTINCT do
    requests[i] = string.format(
      "GET /articles/%06d?page=%d HTTP/1.1\r\nHost: %s\r\n%sReferer: http://%s/articles/%06d\r\nCookie: sid=%08x%08x; seen=%08x; theme=dark; visit=%06d\r\n\r\n",
      i, i % 97, host, same_fields, host, i - 1,
      math.random(0, 2147483647), math.random(0, 2147483647), math.random(0, 2147483647), i)
  end
end

function request()
  turn = turn % DISTINCT + 1
  return requests[turn]
end
