"""CORE: the lines of the access log.

One line an exchange, in one of two forms. What a client or an endpoint sent stands in it escaped: nothing of it can end
a line, or pass for another field.

    2026-11-24T09:30:00.123Z 10.1.2.3 "GET /cart HTTP/1.1" 200 ok in=0 out=5120 queue=0.000012 connect=- first=0.020100
        total=0.020400 via=10.0.0.7:8080 tries=10.0.0.6:8080/refused id=939f46d65435abc200000001      (in one line)

`json` has the same, one object a line, with times in seconds as numbers and null for what did not happen.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple


class Attempt(NamedTuple):
    """An attempt that failed: at which endpoint (address and port), how, and how many seconds after the head."""

    endpoint: str
    outcome: str
    after: float = 0.0


class Entry(NamedTuple):
    """One exchange. Times are seconds; None is what did not happen."""

    at: str
    """When its head was received: 2026-11-24T09:30:00.123Z."""
    client: bytes
    method: bytes
    target: bytes
    minor: int
    status: int
    """What the client was given, or 0: nothing."""
    reason: str
    received: int
    """Bytes of the request's body."""
    sent: int
    """Bytes of the response, head and body."""
    queue: float | None
    """From the head to the endpoint that took the request: waiting, and attempts that failed."""
    connect: float | None
    """The connect of the last attempt, if it made one."""
    first_byte: float | None
    """From there to the response's first byte."""
    total: float
    endpoint: str
    """Who answered, or would have; empty: nobody was asked."""
    attempts: tuple[Attempt, ...]
    request_id: bytes


# Whatever is not visible ASCII; and what quotes, or escapes.
_UNSAFE = re.compile(rb'[^!-~]|["\\]')


def text_line(entry: Entry) -> bytes:
    """Return the line, with its end."""
    version = b"HTTP/1.%d" % entry.minor
    tries = ",".join(f"{attempt.endpoint}/{attempt.outcome.replace(' ', '_')}" for attempt in entry.attempts) or "-"
    words = [
        entry.at.encode(),
        escape(entry.client),
        b'"%b %b %b"' % (escape(entry.method), escape(entry.target), version),
        b"%d" % entry.status if entry.status else b"-",
        entry.reason.encode(),
        b"in=%d" % entry.received,
        b"out=%d" % entry.sent,
        b"queue=" + _seconds(entry.queue),
        b"connect=" + _seconds(entry.connect),
        b"first=" + _seconds(entry.first_byte),
        b"total=" + _seconds(entry.total),
        b"via=" + (entry.endpoint.encode() or b"-"),
        b"tries=" + tries.encode(),
        b"id=" + (escape(entry.request_id) or b"-"),
    ]
    return b" ".join(words) + b"\n"


def json_line(entry: Entry) -> bytes:
    """Return the line, with its end. Bytes stand in it as the characters of their numbers (latin-1)."""
    content = {
        "time": entry.at,
        "client": entry.client.decode("latin-1"),
        "method": entry.method.decode("latin-1"),
        "target": entry.target.decode("latin-1"),
        "version": f"HTTP/1.{entry.minor}",
        "status": entry.status or None,
        "reason": entry.reason,
        "bytesReceived": entry.received,
        "bytesSent": entry.sent,
        "queue": _rounded(entry.queue),
        "connect": _rounded(entry.connect),
        "firstByte": _rounded(entry.first_byte),
        "total": _rounded(entry.total),
        "endpoint": entry.endpoint or None,
        "attempts": [
            {"endpoint": attempt.endpoint, "outcome": attempt.outcome, "after": _rounded(attempt.after)}
            for attempt in entry.attempts
        ],
        "requestId": entry.request_id.decode("latin-1") or None,
    }
    # ASCII alone: no terminal and no reader of lines sees anything else in it.
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def escape(text: bytes) -> bytes:
    r"""Return `text` with whatever is not visible ASCII, and what quotes, as `\xNN`."""
    return _UNSAFE.sub(lambda found: b"\\x%02x" % found[0][0], text)


def _seconds(seconds: float | None) -> bytes:
    return b"-" if seconds is None else b"%.6f" % seconds


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
