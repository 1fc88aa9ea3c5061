"""Where the endpoints come from.

A `Source` finds the endpoints and publishes them: `start(publish)`, then `stop()`. What it publishes is always a
complete snapshot, never a difference; the one who gets it replaces what was there. A source that can't reach what it
reads keeps quiet, so the last snapshot stays; a source that reads "there are none" publishes an empty one.

Imports nothing heavy: `static` and `file` are modules of their own, and so is what speaks with Kubernetes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from lb.endpoint import Snapshot

Publish = Callable[[Snapshot], None]
"""Takes a complete snapshot. Called on the loop's thread, and only when the snapshot differs from the one before."""

Sleep = Callable[[float], Awaitable[object]]
"""Waits so many seconds; asyncio.sleep, but in tests."""


class DiscoveryError(Exception):
    """A source can't give a first snapshot. One line: what is wrong, where, and what to do."""


class Source(Protocol):
    """What finds endpoints."""

    async def start(self, publish: Publish) -> None:
        """Return when the first complete snapshot was published; keep publishing until `stop`.

        Raise DiscoveryError when there can't be one; nothing goes on in the background then.
        """

    async def stop(self) -> None:
        """Stop publishing. Also right when the source never started, or is stopped already."""
