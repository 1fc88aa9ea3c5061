"""CORE: how long to wait before the next try."""

from __future__ import annotations

from collections.abc import Callable

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 1.0
"""So short because whoever lost the API server is to be in step within 2 s of its return."""


class Backoff:
    """Pauses that double from `FIRST_SECONDS` to `LONGEST_SECONDS`, each shortened at random by up to a half.

    `random` returns a number from 0 up to but not including 1. Without chance, all instances of podlb that lost the
    same API server would come back to it in the same moment.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._seconds = FIRST_SECONDS

    def next(self) -> float:
        """Return the seconds to wait now; the next pause is twice as long."""
        seconds = self._seconds * (1 - self._random() / 2)
        self._seconds = min(self._seconds * 2, LONGEST_SECONDS)
        return seconds

    def reset(self) -> None:
        """All is well again: the next pause is a short one."""
        self._seconds = FIRST_SECONDS
