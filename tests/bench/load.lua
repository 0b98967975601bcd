-- Sends prepared requests in turn and counts the answers that are not what they should be.
-- Arguments: a file of whole HTTP requests, each ended by a NUL byte; the text that every good answer contains.
local threads = {}
local requests, marker, turn = {}, "", 0
failures = 0
sample = ""

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  marker = arguments[2]
  local file = assert(io.open(arguments[1], "rb"))
  for text in file:read("*a"):gmatch("[^%z]+") do
    requests[#requests + 1] = text
  end
  file:close()
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function response(status, headers, body)
  if status ~= 200 or not body:find(marker, 1, true) then
    failures = failures + 1
    if failures == 1 then
      sample = status .. " " .. body:sub(1, 300)
    end
  end
end

function done(summary, latency)
  local failed, first = 0, ""
  for _, thread in ipairs(threads) do
    failed = failed + thread:get("failures")
    first = first == "" and thread:get("sample") or first
  end
  local errors = summary.errors
  io.write(string.format(
    "\nRESULT %d %d %d %d %d %d %d %d\nSAMPLE %s\n",
    summary.requests, summary.duration, failed,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(95), latency:percentile(99), latency.max,
    first:gsub("%s+", " ")
  ))
end
