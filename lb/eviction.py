"""Who has to go when there is no room for a new client: first who idles, then who is slow with a head.

A new client must get in although others hold all connections without using them. Finding the first to go takes a look
at every connection (a few ms for 10,000), so one look finds many: they are kept in order, and each is asked again
before it goes, for it may have sent something since.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Protocol

# For 10,000 connections the look then costs each eviction about 20 µs.
_FOUND_AT_ONCE = 256

# A look costs about 0.5 µs for each connection: it is repeated at once only if that was less than 0.2 ms for each that
# went. Otherwise, with nearly all in use, every new client would cost as much as hundreds of requests.
_LOOKED_AT_FOR_ONE = 400

LOOK_AGAIN_SECONDS = 0.1
"""For how long a look is good: as long nobody is looked for again who was not found, or who would go before others."""

Rank = tuple[int, float]
"""What kind of use it makes of its connection, and since when: the lowest goes first."""


class Evictable(Protocol):
    """A client connection."""

    def eviction_rank(self, *, closely: bool = False) -> Rank | None:
        """Return its place in the order, or None: it is in use and must stay.

        `closely`: ask the kernel too whether anything is on its way, either way. That costs about 2 µs.
        """

    def evict(self) -> None:
        """Close it."""


_Found = tuple[Rank, int, Evictable]


class Evictor:
    """Makes room among `connections`, which is called for all that are open."""

    def __init__(self, connections: Callable[[], Iterable[Evictable]]) -> None:
        self._connections = connections
        self._found: list[_Found] = []
        """The next to go is the last."""
        self._look_at = 0.0
        self._looked_at = 0
        """How many connections the last look was at."""
        self._made = 0
        """How many went since."""

    def make_room(self, now: float) -> bool:
        """Close one connection. Returns False if all are in use."""
        while self._found:
            found = self._found.pop()
            rank = found[0]
            if rank[0] and now >= self._look_at:
                # By now others may idle, who go first.
                self._found.clear()
            elif self._evict(found):
                return True
        is_worth_it = 0 < self._looked_at <= self._made * _LOOKED_AT_FOR_ONE
        return (now >= self._look_at or is_worth_it) and self._look(now)

    def _look(self, now: float) -> bool:
        """Look at all, close the first to go, and keep those that are next."""
        ranks = [(connection.eviction_rank(), connection) for connection in self._connections()]
        # The number decides between equals: connections can't be compared.
        heap = [(rank, number, connection) for number, (rank, connection) in enumerate(ranks) if rank is not None]
        self._look_at = now + LOOK_AGAIN_SECONDS
        self._looked_at, self._made = len(ranks), 0
        heapq.heapify(heap)
        while heap:
            if self._evict(heapq.heappop(heap)):
                self._found = [heapq.heappop(heap) for _ in range(min(_FOUND_AT_ONCE - 1, len(heap)))]
                self._found.reverse()
                return True
        return False

    def _evict(self, found: _Found) -> bool:
        """Close it, unless it has done something since."""
        rank, _, connection = found
        if connection.eviction_rank(closely=True) != rank:
            return False
        self._made += 1
        connection.evict()
        return True
