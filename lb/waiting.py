"""The requests that wait because no endpoint can be reached, in the order in which they came."""

from __future__ import annotations

from typing import Protocol


class Waiter(Protocol):
    """A request that waits."""

    def try_again(self, now: float) -> bool:
        """An endpoint may have returned: take one if there is one. Returns False if it goes on waiting."""


class Waiting:
    """At most `limit` requests that wait."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiters: dict[Waiter, None] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    def __contains__(self, waiter: Waiter) -> bool:
        return waiter in self._waiters

    def enter(self, waiter: Waiter) -> bool:
        """Wait. Returns False if too many wait already."""
        if len(self._waiters) >= self._limit and waiter not in self._waiters:
            return False
        self._waiters[waiter] = None
        return True

    def leave(self, waiter: Waiter) -> None:
        """Wait no longer."""
        self._waiters.pop(waiter, None)

    def in_order(self) -> list[Waiter]:
        """Return those who wait, the longest first."""
        return list(self._waiters)
