"""SHELL: what the connections of one process have in common."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Protocol

from backend.app import App
from backend.cpu import Burner


class Open(Protocol):
    """A connection, as far as the others are concerned."""

    def ask_again(self) -> None:
        """Go on with the request that a fault held."""

    def stop(self) -> None:
        """Close if idle, else finish what is in flight."""

    def reset(self) -> None:
        """End now."""


class Shared:
    """The application, the event loop, and who is connected.

    `emptied` is called whenever the last connection is gone.
    """

    def __init__(
        self, app: App, loop: asyncio.AbstractEventLoop, *, is_logging: bool, emptied: Callable[[], None]
    ) -> None:
        self.app = app
        self.loop = loop
        self.burner = Burner(loop)
        self.is_logging = is_logging
        """Whether each request head is logged."""
        self.is_stopping = False
        """Whether new connections may have one request at most."""
        self.connections: set[Open] = set()
        self.held: set[Open] = set()
        """The connections whose request a fault holds."""
        self._emptied = emptied
        self._fault_timer: asyncio.TimerHandle | None = None
        self._date = (0, b"")

    def date(self) -> bytes:
        """Return the value of the Date field."""
        now = int(time.time())
        if self._date[0] != now:
            self._date = (now, formatdate(now, usegmt=True).encode())
        return self._date[1]

    def connection_lost(self, connection: Open) -> None:
        """Forget a connection that is gone."""
        self.connections.discard(connection)
        self.held.discard(connection)
        if not self.connections:
            self._emptied()

    def fault_changed(self) -> None:
        """Ask about the held requests again: now, and once more when the time of the fault is over."""
        if self._fault_timer is not None:
            self._fault_timer.cancel()
            self._fault_timer = None
        fault = self.app.faults.active(self.loop.time())
        if fault is not None and fault.until is not None:
            self._fault_timer = self.loop.call_at(fault.until, self.fault_changed)
        held, self.held = self.held, set()
        for connection in held:
            connection.ask_again()
