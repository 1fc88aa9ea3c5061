"""SHELL: lines of the access log for exchanges that went as nearly all do, in a sixth of the time that others take.

That is: answered to the end, at the first attempt, on a connection that was kept. What stands in the line is what
`access_log` would write.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Literal

from lb.access_log import escape
from lb.endpoint import EndpointKey, format_authority
from lb.errors import EndReason
from lb.exchange import Exchange
from lb.http1.forwarding import Request
from lb.timestamps import Timestamps

_TEXT = b'%b %b "%b" %d ok in=%d out=%d queue=%.6f connect=- first=%.6f total=%.6f via=%b tries=- id=%b\n'
_JSON = (
    b'{"time":"%b","client":"%b",%b,"status":%d,"reason":"ok","bytesReceived":%d,"bytesSent":%d,"queue":%.6f,'
    b'"connect":null,"firstByte":%.6f,"total":%.6f,"endpoint":"%b","attempts":[],"requestId":"%b"}\n'
)
_MOST_ENDPOINTS = 4096
_OK = EndReason.OK


class PlainLines:
    """Makes lines. `wall_clock` returns seconds since 1970."""

    def __init__(self, form: Literal["text", "json"], wall_clock: Callable[[], float] = time.time) -> None:
        self._is_json = form == "json"
        self._line = _JSON if self._is_json else _TEXT
        self._wall_clock = wall_clock
        self._timestamps = Timestamps()
        self._millisecond = -1
        self._at = b""
        self._authorities: dict[EndpointKey, bytes] = {}

    def of(self, exchange: Exchange) -> bytes | None:
        """Return the line of an exchange that has ended, or None: there is more to say of it."""
        endpoint = exchange.endpoint
        if (
            exchange.end_reason is not _OK
            or endpoint is None
            or not exchange.first_byte
            or getattr(exchange, "attempts", None) is not None
            or getattr(exchange, "connect_seconds", None) is not None
        ):
            return None
        request, began, ready = exchange.request, exchange.head_received, exchange.upstream_ready
        total = exchange.end - began
        wall_clock = self._wall_clock
        millisecond = int((wall_clock() - total) * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            # (The half makes sure of the millisecond.)
            self._at = self._timestamps.text((millisecond + 0.5) / 1000).encode()
        request_id = exchange.request_id or b""
        return self._line % (
            self._at,
            getattr(exchange, "client", b"unknown"),
            request.log_words or self._words(request),
            exchange.status,
            getattr(exchange, "received", 0),
            getattr(exchange, "sent", 0),
            ready - began,
            exchange.first_byte - ready,
            total,
            self._authorities.get(endpoint.key) or self._authority(endpoint.key),
            request_id if request.request_id is None else self._escape(request_id),
        )

    def _words(self, request: Request) -> bytes:
        """Return method, target and version as they stand in the line; kept with the request, which may come again."""
        if self._is_json:
            method, target = (json.dumps(text.decode("latin-1")) for text in (request.method, request.target))
            words = f'"method":{method},"target":{target},"version":"HTTP/1.{request.minor}"'.encode()
        else:
            words = b"%b %b HTTP/1.%d" % (escape(request.method), escape(request.target), request.minor)
        request.log_words = words
        return words

    def _escape(self, text: bytes) -> bytes:
        return json.dumps(text.decode("latin-1"))[1:-1].encode() if self._is_json else escape(text)

    def _authority(self, key: EndpointKey) -> bytes:
        if len(self._authorities) >= _MOST_ENDPOINTS:
            self._authorities.clear()
        self._authorities[key] = text = format_authority(key[1], key[2]).encode()
        return text
