"""Idle upstream connections, kept for the next request to the same endpoint."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from lb.endpoint import EndpointKey


class Idle(Protocol):
    """What the pool needs of a connection."""

    idle_since: float
    is_usable: bool
    """Is it still open, as far as is known?"""


C = TypeVar("C", bound=Idle)


class Pool(Generic[C]):
    """Idle connections by endpoint, the last one used first: it is the least likely to be closed from the other side.

    It never closes anything: what is to be closed is returned. `idle_timeout` is in seconds, `max_idle` a count per
    endpoint.
    """

    def __init__(self, *, idle_timeout: float, max_idle: int) -> None:
        self._idle_timeout = idle_timeout
        self._max_idle = max_idle
        self._idle: dict[EndpointKey, list[C]] = {}
        self._kept: frozenset[EndpointKey] | None = None
        """The endpoints of the last `retain`: a connection to another is not taken in any more."""

    def checkout(self, key: EndpointKey, now: float) -> C | None:
        """Return an idle connection to the endpoint, or None. One that idled too long stays, for `expire`."""
        stack = self._idle.get(key)
        while stack:
            connection = stack.pop()
            if connection.is_usable:
                if now - connection.idle_since < self._idle_timeout:
                    return connection
                # Those below it idle for longer still.
                stack.append(connection)
                return None
        return None

    def checkin(self, key: EndpointKey, connection: C, now: float) -> bool:
        """Keep `connection` for the next request. Returns False if the caller is to close it.

        That is when there are enough, or when its endpoint has left meanwhile.
        """
        stack = self._idle.get(key)
        if stack is None:
            if self._kept is not None and key not in self._kept:
                return False
            stack = self._idle[key] = []
        if len(stack) >= self._max_idle:
            return False
        connection.idle_since = now
        stack.append(connection)
        return True

    def expire(self, now: float) -> list[C]:
        """Take out and return the connections that have idled for `idle_timeout`."""
        expired: list[C] = []
        for key, stack in list(self._idle.items()):
            fresh = 0
            while fresh < len(stack) and now - stack[fresh].idle_since >= self._idle_timeout:
                fresh += 1
            if fresh:
                expired += stack[:fresh]
                del stack[:fresh]
            if not stack:
                del self._idle[key]
        return expired

    def discard(self, key: EndpointKey) -> list[C]:
        """Take out and return all connections to one endpoint."""
        return self._idle.pop(key, [])

    def forget(self, key: EndpointKey, connection: C) -> None:
        """`connection` was closed by the other side while it was idle."""
        stack = self._idle.get(key)
        if stack is not None and connection in stack:
            stack.remove(connection)

    def retain(self, keys: Iterable[EndpointKey]) -> list[C]:
        """Keep the connections to `keys`; take out and return all others."""
        self._kept = keep = frozenset(keys)
        return [connection for key in self._idle.keys() - keep for connection in self._idle.pop(key)]

    def clear(self) -> list[C]:
        """Take out and return all."""
        return self.retain(())

    def counts(self) -> dict[EndpointKey, int]:
        """Return how many connections are idle, by endpoint."""
        return {key: len(stack) for key, stack in self._idle.items()}

    def count(self, key: EndpointKey) -> int:
        """Return how many connections to the endpoint are idle."""
        return len(self._idle.get(key, ()))
