"""Round robin: every ready endpoint in turn."""

from __future__ import annotations

from collections.abc import Container, Set

from lb.endpoint import Endpoint, EndpointKey, Snapshot
from lb.errors import EndReason
from lb.http1.forwarding import Request


class RoundRobin:
    """Picks the ready endpoints of the snapshot one after the other.

    It starts at `offset`, which the caller draws at random, so that several instances do not march in step. It keeps
    its place when the snapshot changes: the endpoint whose turn it was stays next, or the first one behind it that is
    still there.
    """

    learns = False

    def __init__(self, snapshot: Snapshot = (), *, offset: int = 0) -> None:
        self._ready: Snapshot = ()
        self._next = 0
        self._offset = offset
        self.replace(snapshot)

    def pick(self, request: Request | None, excluding: Set[EndpointKey], now: float) -> Endpoint | None:
        """Return the next endpoint that is none of `excluding`, or None; the one behind it is next."""
        ready = self._ready
        count = len(ready)
        at = self._next
        if not excluding and count:
            # Nearly always.
            self._next = at + 1 if at + 1 < count else 0
            return ready[at]
        for _ in range(count):
            endpoint = ready[at]
            at += 1
            if at == count:
                at = 0
            if endpoint.key not in excluding:
                self._next = at
                return endpoint
        return None

    def pick_again(self, after: EndpointKey, excluding: Container[EndpointKey]) -> Endpoint | None:
        """Return the first endpoint behind `after` that is none of `excluding`, or None; whose turn it is stays."""
        ready = self._ready
        count = len(ready)
        start = next((at + 1 for at, endpoint in enumerate(ready) if endpoint.key == after), self._next)
        for step in range(count):
            endpoint = ready[(start + step) % count]
            if endpoint.key not in excluding:
                return endpoint
        return None

    def record(self, endpoint: Endpoint, outcome: EndReason, seconds: float) -> None:
        """Round robin learns nothing."""

    def replace(self, snapshot: Snapshot) -> None:
        """Balance over `snapshot` from now on."""
        ready = tuple([endpoint for endpoint in snapshot if endpoint.ready])
        if not ready:
            # The turn is kept for the endpoints that come back: a set that was empty for a moment goes on where it was.
            self._offset += self._next
            self._next = 0
        elif not self._ready:
            self._next = self._offset % len(ready)
            self._offset = 0
        else:
            # A large Service is replaced in one go: half as long as with a dictionary of places.
            here = {endpoint.key for endpoint in ready}
            turn = self._ready[self._next :] + self._ready[: self._next]
            after = next((endpoint.key for endpoint in turn if endpoint.key in here), None)
            if after is None:
                self._next %= len(ready)
            else:
                self._next = next(at for at, endpoint in enumerate(ready) if endpoint.key == after)
        self._ready = ready
