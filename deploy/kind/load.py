"""Send requests to the load balancer and say which pod answered how many: `python3 load.py URL [REQUESTS]`.

Only the standard library, so that it runs wherever kind does. Exit code 1 if a request was not answered with 2xx.
"""

from __future__ import annotations

import collections
import http.client
import json
import sys
import time
from urllib.parse import urlsplit

LIMIT = 100_000
CONNECTION_REQUESTS = 50
"""Requests on a connection before the next is made: so that every replica of the load balancer gets some."""


def answered_by(connection: http.client.HTTPConnection, path: str) -> str:
    """Send one request and return the name of the pod that answered, or what went wrong."""
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return f"no answer: {error or type(error).__name__}"
    if not 200 <= response.status < 300:
        return f"status {response.status}"
    try:
        return str(json.loads(body)["pod"])
    except (ValueError, KeyError, TypeError):
        return "a 2xx that names no pod"


def main(arguments: list[str]) -> int:
    """Run; return the exit code."""
    url = urlsplit(arguments[0]) if arguments else None
    count = arguments[1] if len(arguments) > 1 else "500"
    if url is None or url.scheme != "http" or not url.hostname or not count.isdigit() or not 0 < int(count) <= LIMIT:
        sys.stderr.write(f"usage: load.py http://HOST[:PORT]/ [REQUESTS, 1 to {LIMIT}]\n")
        return 2
    answers: collections.Counter[str] = collections.Counter()
    begin = time.monotonic()
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=10)
    for number in range(int(count)):
        if number % CONNECTION_REQUESTS == 0:
            connection.close()
        answers[answered_by(connection, url.path or "/")] += 1
    connection.close()
    seconds = time.monotonic() - begin
    sys.stdout.write(f"{count} requests to {url.geturl()} in {seconds:.1f} s:\n")
    for answer, times in sorted(answers.items()):
        sys.stdout.write(f"{times:8d}  {answer}\n")
    return 1 if any(answer.startswith(("no answer", "status")) for answer in answers) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
