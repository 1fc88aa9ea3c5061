"""SHELL: writes the access log: chooses which exchanges, and hands their lines to the log's writer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

from lb.access_log import Attempt, Entry, json_line, text_line
from lb.endpoint import format_authority
from lb.exchange import Exchange


class AccessLogger:
    """Writes a line for each exchange that has ended, or for a share of them.

    `write` takes a line and never waits; `random` returns a number from 0 up to (not including) 1; `wall_clock` returns
    seconds since 1970.
    """

    def __init__(
        self,
        form: Literal["text", "json"],
        sample: float,
        write: Callable[[bytes], None],
        *,
        random: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._line = text_line if form == "text" else json_line
        self._sample = sample
        self._write = write
        self._random = random
        self._wall_clock = wall_clock
        self._second = (-1, "")

    def exchange_ended(self, exchange: Exchange) -> None:
        """Write its line, if it is one of those that are written."""
        if self._sample < 1.0 and self._random() >= self._sample:
            return
        self._write(self._line(self._entry(exchange)))

    def head_refused(self, client: bytes, status: int, reason: str, request_id: bytes) -> None:
        """A head was refused, so that there is no exchange: nothing is known but who sent it."""
        if self._sample < 1.0 and self._random() >= self._sample:
            return
        entry = Entry(
            at=self._timestamp(self._wall_clock()),
            client=client,
            method=b"-",
            target=b"-",
            minor=1,
            status=status,
            reason=reason,
            received=0,
            sent=0,
            queue=None,
            connect=None,
            first_byte=None,
            total=0.0,
            endpoint="",
            attempts=(),
            request_id=request_id,
        )
        self._write(self._line(entry))

    def _timestamp(self, at: float) -> str:
        second, milliseconds = divmod(int(at * 1000), 1000)
        known, text = self._second
        if second != known:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, text)
        return f"{text}.{milliseconds:03d}Z"

    def _entry(self, exchange: Exchange) -> Entry:
        request, began, ready = exchange.request, exchange.head_received, exchange.upstream_ready
        endpoint = exchange.endpoint
        tries: Any = getattr(exchange, "attempts", None)
        story = () if tries is None else tries.story
        total = exchange.end - began
        return Entry(
            at=self._timestamp(self._wall_clock() - total),
            client=getattr(exchange, "client", b"unknown"),
            method=request.method or b"-",
            target=request.target or b"-",
            minor=request.minor,
            status=exchange.status,
            reason=exchange.end_word,
            received=getattr(exchange, "received", 0),
            sent=getattr(exchange, "sent", 0),
            queue=ready - began if ready else None,
            connect=getattr(exchange, "connect_seconds", None),
            first_byte=exchange.first_byte - ready if ready and exchange.first_byte else None,
            total=total,
            endpoint="" if endpoint is None else endpoint.authority,
            attempts=tuple(Attempt(format_authority(key[1], key[2]), outcome) for key, outcome in story),
            request_id=exchange.request_id or b"",
        )
