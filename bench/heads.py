"""How many heads podlb remembered: read from its metrics before and behind a load.

A head that is the same, to the byte, as one before is not read again: a figure says little without how often that was.
"""

from __future__ import annotations

import http.client
import re
from typing import NamedTuple

from bench.proc import HOST, BenchError

_TIMEOUT = 10.0
_COUNTER = re.compile(r"^podlb_(exchanges|request_heads_read|response_heads_read)_total (\S+)$", re.MULTILINE)


class Heads(NamedTuple):
    """What one podlb has counted since it was started."""

    exchanges: int
    requests_read: int
    responses_read: int


class Known(NamedTuple):
    """The shares of heads that were remembered, of requests and of responses: from 0 to 1."""

    requests: float
    responses: float


def parse(page: str) -> Heads:
    """Take the counters out of a page of metrics. BenchError when they are not there."""
    found = {name: int(float(value)) for name, value in _COUNTER.findall(page)}
    try:
        return Heads(found["exchanges"], found["request_heads_read"], found["response_heads_read"])
    except KeyError as missing:
        raise BenchError(f"podlb's metrics have no counter podlb_{missing.args[0]}_total") from None


def fetch(admin_port: int) -> Heads:
    """Ask the podlb with this admin port. BenchError when it does not answer."""
    connection = http.client.HTTPConnection(HOST, admin_port, timeout=_TIMEOUT)
    try:
        connection.request("GET", "/metrics")
        return parse(connection.getresponse().read().decode())
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"podlb's admin port {admin_port} gave no metrics: {error!r}") from error
    finally:
        connection.close()


def known(before: Heads, after: Heads) -> Known | None:
    """What was remembered between the two; None if there was no exchange.

    Each exchange is reckoned with one response: retries and failures make it less exact, and the share lower.
    """
    count = after.exchanges - before.exchanges
    if not count:
        return None
    return Known(
        max(0.0, 1 - (after.requests_read - before.requests_read) / count),
        max(0.0, 1 - (after.responses_read - before.responses_read) / count),
    )
