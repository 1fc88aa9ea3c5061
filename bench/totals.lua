-- wrk prints the bytes it read rounded to three digits; this adds the exact number.

function done(summary, latency, requests)
  io.write(string.format("bytes read: %.0f\n", summary.bytes))
end
