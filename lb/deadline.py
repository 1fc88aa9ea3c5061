"""Lazy deadlines: setting one is an attribute store; a coarse sweep finds those that have passed.

Every connection has one deadline at a time and moves it with every message. Instead of a timer for each, connections
are filed under the tick in which they have to be looked at again: when it has passed, those whose deadline has moved
meanwhile are filed anew, the others are told. A connection that serves 10,000 requests a second is looked at once a
minute.
"""

from __future__ import annotations

import math
from typing import Protocol

NEVER = math.inf


class Timed(Protocol):
    """What has a deadline."""

    deadline: float
    """When it must be told, in seconds on the caller's clock; NEVER if it need not be."""
    filed: float
    """Belongs to Deadlines: the tick under which it is filed; NEVER if it is not. Starts as NEVER."""

    def deadline_passed(self, now: float) -> None:
        """Its deadline has passed."""


class Deadlines:
    """Files what has a deadline under ticks of `resolution` seconds. A deadline is noticed up to one tick late."""

    def __init__(self, resolution: float = 0.1) -> None:
        self.resolution = resolution
        self._ticks: dict[float, set[Timed]] = {}

    def file(self, timed: Timed) -> None:
        """Look at `timed` when its deadline passes.

        To be called after a deadline was set that is sooner than `timed.filed`; with a later one it need not be.
        """
        if timed.deadline == NEVER:
            return
        tick = (math.floor(timed.deadline / self.resolution) + 1) * self.resolution
        if tick < timed.filed:
            self.remove(timed)
            timed.filed = tick
            self._ticks.setdefault(tick, set()).add(timed)

    def remove(self, timed: Timed) -> None:
        """`timed` is closed: hold no reference to it any longer."""
        filed, timed.filed = timed.filed, NEVER
        if filed != NEVER and (waiting := self._ticks.get(filed)) is not None:
            waiting.discard(timed)
            if not waiting:
                del self._ticks[filed]

    def next_tick(self) -> float:
        """Return when `expire` has something to do, or NEVER."""
        return min(self._ticks, default=NEVER)

    def expire(self, now: float) -> int:
        """Tell everything whose deadline has passed; return how many were told."""
        told = 0
        for tick in sorted(tick for tick in self._ticks if tick <= now):
            # What is filed anew meanwhile, even for the past, is for the next time.
            for timed in self._ticks.pop(tick, ()):
                if timed.filed != tick:
                    continue
                timed.filed = NEVER
                if timed.deadline <= now:
                    told += 1
                    timed.deadline_passed(now)
                if timed.deadline < timed.filed:
                    self.file(timed)
        return told
