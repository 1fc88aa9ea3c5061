"""SHELL: burns processor time without holding up the event loop.

Each turn of the loop burns one slice, whoever it is for: with any number of requests burning, a probe waits for one
slice and not for one slice each. They take turns, so together they behave as on one processor that is shared.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

SLICE = 0.001
"""Seconds of processor time per turn: what a probe may have to wait for it."""


class Burn:
    """Processor time that someone waits for."""

    __slots__ = ("done", "is_cancelled", "remaining")

    def __init__(self, seconds: float, done: Callable[[], None]) -> None:
        self.remaining = seconds
        self.done = done
        self.is_cancelled = False

    def cancel(self) -> None:
        """Burn no more; `done` is not called."""
        self.is_cancelled = True


class Burner:
    """Burns on one event loop, in turns."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._burns: deque[Burn] = deque()

    def burn(self, seconds: float, done: Callable[[], None]) -> Burn:
        """Burn that much processor time, then call `done`."""
        burn = Burn(seconds, done)
        if not self._burns:
            self._loop.call_soon(self._turn)
        self._burns.append(burn)
        return burn

    def _turn(self) -> None:
        burn = self._burns.popleft()
        if not burn.is_cancelled:
            burn.remaining -= _spin(min(SLICE, burn.remaining))
            if burn.remaining > 0:
                self._burns.append(burn)
        if self._burns:
            self._loop.call_soon(self._turn)
        if burn.remaining <= 0 and not burn.is_cancelled:
            burn.done()


def _spin(seconds: float) -> float:
    """Keep the processor busy for `seconds` of this thread's time. Returns what it was in fact."""
    start = time.thread_time()
    spent = 0.0
    while spent < seconds:
        spent = time.thread_time() - start
    return spent
