"""SHELL: `podlb why [ID] [--admin HOST:PORT]`: asks a running podlb why a request went as it did."""

from __future__ import annotations

import argparse
import http.client
import sys
from collections.abc import Sequence
from urllib.parse import quote

_TIMEOUT_SECONDS = 5.0


def run_why(arguments: Sequence[str]) -> int:
    """Print the story of one request, or the last that failed; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="podlb why", description="Tell why a request went as it did; without an id, which failed last."
    )
    parser.add_argument("id", nargs="?", metavar="ID", help="the X-Request-Id, as in the reply or in the access log")
    parser.add_argument("--admin", default="127.0.0.1:8081", metavar="HOST:PORT", help="(default %(default)s)")
    options = parser.parse_args(arguments)
    path = "/why" if options.id is None else f"/why/{quote(options.id, safe='')}"
    host, _, port = options.admin.rpartition(":")
    try:
        connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_TIMEOUT_SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        sys.stderr.write(f"podlb: the admin port at {options.admin} can't be asked: {error}; see --admin\n")
        return 1
    if response.status != 200:
        sys.stderr.write(f"podlb: {text}")
        return 1
    sys.stdout.write(text)
    return 0
