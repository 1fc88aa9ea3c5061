"""SHELL: what takes longer to make than the event loop may be held up: a thread makes one after the other.

What is to be made is read only when its turn has come, and whoever is gone by then gets nothing: those that ask again
and again without waiting for an answer cost no memory.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

log = logging.getLogger(__name__)

LIMIT = 16
"""How many may wait for their turn."""

# While the thread works, the loop waits so long at most each time that it wants the interpreter back: behind every
# system call, eight times for a small request; by default it would be 5 ms.
_SWITCH_SECONDS = 0.00005

Answer = tuple[int, bytes, bytes]
"""Status, content type, content."""
Make = Callable[[], Answer]
"""Makes an answer, in the thread."""
Prepare = Callable[[], Make]
"""Reads what is needed for that, in the loop."""

_TEXT = b"text/plain; charset=utf-8"
FAILED: Answer = (500, _TEXT, b"this answer could not be made: see the log\n")
BUSY: Answer = (503, _TEXT, b"too many ask for this at once\n")
STOPPING: Answer = (503, _TEXT, b"stopping\n")


class Order:
    """An answer that is to be made."""

    __slots__ = ("_tell", "is_finished", "prepare")

    def __init__(self, prepare: Prepare, tell: Callable[[Answer], object]) -> None:
        self.prepare = prepare
        self._tell = tell
        self.is_finished = False

    def finish(self, answer: Answer) -> None:
        """Tell the answer, unless nobody wants it any more."""
        if not self.is_finished:
            self.is_finished = True
            self._tell(answer)


class Works:
    """Takes orders for answers."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Order] = deque()
        self._working: Order | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._is_closed = False

    def order(self, prepare: Prepare, tell: Callable[[Answer], object]) -> Order | None:
        """Have an answer made, and told to `tell` in the loop. Returns None if it was told already (no room)."""
        order = Order(prepare, tell)
        if self._is_closed:
            order.finish(STOPPING)
        elif len(self._waiting) >= LIMIT:
            order.finish(BUSY)
        else:
            self._waiting.append(order)
            self._go_on()
        return None if order.is_finished else order

    def cancel(self, order: Order) -> None:
        """Nobody wants the answer any more."""
        order.is_finished = True
        with suppress(ValueError):  # its turn has come
            self._waiting.remove(order)

    def close(self) -> None:
        """Make nothing more; the thread ends behind what it makes just now."""
        self._is_closed = True
        self._waiting.clear()
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _go_on(self) -> None:
        while self._waiting and self._working is None and not self._is_closed:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, "admin")
                sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_SECONDS))
            order = self._waiting.popleft()
            try:
                make = order.prepare()
            except Exception:
                self._failed(order)
                continue
            self._working = order
            self._thread.submit(make).add_done_callback(self._made)

    def _made(self, made: Future[Answer]) -> None:
        # (In the thread; or where it was cancelled.)
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._tell, made)

    def _tell(self, made: Future[Answer]) -> None:
        order, self._working = self._working, None
        assert order is not None
        if not made.cancelled():
            try:
                answer = made.result()
            except Exception:
                self._failed(order)
            else:
                order.finish(answer)
        self._go_on()

    def _failed(self, order: Order) -> None:
        log.exception("an answer of the admin port could not be made")
        order.finish(FAILED)
