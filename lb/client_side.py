"""What a relay needs of the client's connection."""

from __future__ import annotations

import asyncio
from typing import Protocol

from lb.errors import EndReason
from lb.exchange import Exchange
from lb.flow import Flow
from lb.upstream import Upstream


class ClientSide(Protocol):
    """What the relay needs of the client's connection."""

    transport: asyncio.Transport
    forwarded_for: bytes
    request_flow: Flow
    response_flow: Flow

    def set_deadline(self, deadline: float) -> None:
        """Tell the relay when `deadline` has passed."""

    def must_close(self) -> bool:
        """Must this response be the last one on the connection, although the client did not ask for that?"""

    def write(self, data: bytes) -> None:
        """Send bytes of a response."""

    def answer(self, status: int, reason: EndReason, detail: str, what: str, retry_after: int | None) -> None:
        """Send a reply of our own."""

    def unsent(self) -> int:
        """Return how many bytes of responses the client has not taken yet."""

    def cut(self) -> None:
        """The response can't be completed: let the client see that."""

    def switch(self, exchange: Exchange, upstream: Upstream, data: bytes) -> None:
        """The protocol was switched: what follows are raw bytes, and `data` came already."""

    def exchange_ended(self, exchange: Exchange, now: float, close: bool) -> None:
        """The response is complete."""
