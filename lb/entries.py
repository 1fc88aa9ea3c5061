"""SHELL: what there is to say of an exchange that has ended, with the time of day."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lb.access_log import Attempt, Entry
from lb.endpoint import format_authority
from lb.exchange import Exchange
from lb.timestamps import Timestamps


class Entries:
    """Makes entries of exchanges. `wall_clock` returns seconds since 1970."""

    def __init__(self, wall_clock: Callable[[], float] = time.time) -> None:
        self._wall_clock = wall_clock
        self._timestamps = Timestamps()

    def of(self, exchange: Exchange) -> Entry:
        """Return what is to be said of an exchange that has just ended."""
        request, began, ready = exchange.request, exchange.head_received, exchange.upstream_ready
        endpoint = exchange.endpoint
        tries: Any = getattr(exchange, "attempts", None)
        story = () if tries is None else tries.story
        total = exchange.end - began
        return Entry(
            at=self._timestamps.text(self._wall_clock() - total),
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
            # (Some answer in the turn in which they were connected to, and a turn's time is that of its beginning.)
            first_byte=max(exchange.first_byte - ready, 0.0) if ready and exchange.first_byte else None,
            total=total,
            endpoint="" if endpoint is None else endpoint.authority,
            attempts=tuple(
                Attempt(format_authority(key[1], key[2]), outcome, at - began) for key, outcome, at in story
            ),
            request_id=exchange.request_id or b"",
        )

    def refused(self, client: bytes, status: int, reason: str, request_id: bytes, sent: int) -> Entry:
        """Return the same for a head that was refused, so that there is no exchange: nothing is known of it."""
        return Entry(
            at=self._timestamps.text(self._wall_clock()),
            client=client,
            method=b"-",
            target=b"-",
            minor=1,
            status=status,
            reason=reason,
            received=0,
            sent=sent,
            queue=None,
            connect=None,
            first_byte=None,
            total=0.0,
            endpoint="",
            attempts=(),
            request_id=request_id,
        )
