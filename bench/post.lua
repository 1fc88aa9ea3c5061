-- Requests with a body of 16 KiB.

dofile(debug.getinfo(1, "S").source:match("^@(.*)post%.lua$") .. "totals.lua")

wrk.method = "POST"
wrk.body = string.rep("0123456789abcdef", 1024)
wrk.headers["Content-Type"] = "application/octet-stream"
