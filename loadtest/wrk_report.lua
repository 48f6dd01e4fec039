-- Prints what wrk measured as one JSON line; that runs once, after the load. Arguments are paths to ask for in turn; without
-- them there is no function `request`, and wrk sends the same bytes each time without asking Lua.
function init(args)
  if #args == 0 then return end
  local requests, next = {}, 0
  for number, path in ipairs(args) do requests[number] = wrk.format("GET", path) end
  function request()
    next = next % #requests + 1
    return requests[next]
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'WRK {"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "max_us": %d, ' ..
    '"bad_status": %d, "socket_errors": %d, "timeouts": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    errors.status, errors.connect + errors.read + errors.write, errors.timeout))
end
