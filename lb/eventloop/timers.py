"""Timers as a heap of plain tuples; a cancelled one stays in it until it comes up, or until too many have."""

from __future__ import annotations

import heapq
from typing import Generic, Protocol, TypeVar

# As in asyncio: purge when over this many are there and over half of them are cancelled.
_PURGE_FROM = 100


class Cancellable(Protocol):
    """What is timed."""

    def cancelled(self) -> bool:
        """Was it cancelled?"""


T = TypeVar("T", bound=Cancellable)


class Timers(Generic[T]):
    """A heap of (when, order, timer); `when` in seconds on the caller's clock."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._order = 0
        self._cancelled = 0

    def __bool__(self) -> bool:
        return bool(self._heap)

    def push(self, when: float, timer: T) -> None:
        """Add a timer; of those with the same `when` the first added is due first."""
        self._order += 1
        heapq.heappush(self._heap, (when, self._order, timer))

    def note_cancelled(self) -> None:
        """One of the timers in the heap was cancelled; not one that was taken out."""
        self._cancelled += 1
        if self._cancelled > _PURGE_FROM and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if not entry[2].cancelled()]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next_when(self) -> float | None:
        """Return when the next timer is due, or None."""
        heap = self._heap
        while heap and heap[0][2].cancelled():
            heapq.heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None

    def pop_due(self, until: float) -> list[T]:
        """Take out and return the timers that are due by `until`, in order."""
        due = []
        heap = self._heap
        while heap and heap[0][0] <= until:
            timer = heapq.heappop(heap)[2]
            if timer.cancelled():
                self._cancelled -= 1
            else:
                due.append(timer)
        return due

    def clear(self) -> None:
        """Forget all."""
        self._heap.clear()
        self._cancelled = 0
