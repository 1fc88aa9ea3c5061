"""The turn of the loop: events, timers, callbacks; and what wakes it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from lb.eventloop.held import HeldWrites
from lb.eventloop.poller import READ, Poller
from lb.eventloop.timers import Timers
from lb.eventloop.wakeup import ThreadWakeup

log = logging.getLogger("asyncio")

_EVENTS_BATCH = 512
# Callbacks that are ready and beyond these wait until the next events were seen to.
_CALLBACKS_BATCH = 1024
# epoll_wait takes an int of milliseconds; a day is as good as for ever.
_LONGEST_WAIT = 86400.0


class TurningLoop(asyncio.BaseEventLoop):
    """Runs events, timers and callbacks."""

    # What BaseEventLoop keeps for its subclasses.
    _ready: Any
    _stopping: bool
    _debug: bool
    _check_closed: Callable[[], None]
    _check_thread: Callable[[], None]
    _check_callback: Callable[[object, str], None]

    def __init__(self) -> None:
        super().__init__()
        self._poller = Poller()
        self._timers: Timers[asyncio.TimerHandle] = Timers()
        self._thread_wakeup = ThreadWakeup()
        self._poller.add(self._thread_wakeup.fileno(), self._thread_wakeup, READ)
        self._clock_resolution = 1e-9
        # Without a frame in between: it is asked twice a request.
        self.time = time.monotonic  # type: ignore[method-assign]
        self._current_handle: asyncio.Handle | None = None
        self.outbox = HeldWrites(self.call_exception_handler)

    def _run_once(self) -> None:
        ready = self._ready
        poller = self._poller
        if ready or self._stopping or self.outbox.held:
            timeout = 0.0
        else:
            when = self._timers.next_when()
            timeout = -1.0 if when is None else min(max(when - self.time(), 0.0), _LONGEST_WAIT)
        batch = poller.wait(timeout, _EVENTS_BATCH)
        self.outbox.turn_began = self.time()
        try:
            self._dispatch(batch)
        except BaseException:
            # Somebody wants out (SystemExit, KeyboardInterrupt). An edge is told once: have all of them told again.
            for fd, _ in batch:
                poller.rearm(fd)
            raise
        if self._timers:
            # A timer that is due within the clock's resolution is due.
            for timer in self._timers.pop_due(self.time() + self._clock_resolution):
                timer._scheduled = False  # type: ignore[attr-defined]
                ready.append(timer)
        count = min(len(ready), _CALLBACKS_BATCH)
        if self._debug:
            self._run_slowly(count)
            self.outbox.flush()
            return
        for _ in range(count):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()
        if self.outbox.held:
            self.outbox.flush()
        handle = None  # An exception's traceback may hold the frame, and with it the last handle.

    def _dispatch(self, batch: Iterable[tuple[int, int]]) -> None:
        """Tell the sinks of their events."""
        told: dict[int, Any] = self._poller.told
        for fd, happened in batch:
            try:
                sink = told[fd]
            except KeyError:
                # Whoever was told before has taken it out.
                continue
            if happened != sink.reading:
                sink.ready(happened)
                continue
            # Nearly always. `ready` does the same; without a call an event it saves 2 % of a small GET. (A callable in
            # a slot is called through a local: in one expression CPython 3.11 takes 50 ns longer.)
            size = sink._read_size
            receive = sink._receive
            try:
                data = receive(size)
            except OSError as error:
                sink._read_failed(error)
                continue
            if data and len(data) < size:
                try:
                    sink._protocol.data_received(data)
                except BaseException as error:
                    sink._protocol_failed(error, "data_received")
            else:
                sink._take(data)

    def _run_slowly(self, count: int) -> None:
        """Run `count` callbacks in debug mode: say which took long."""
        for _ in range(count):
            handle = self._ready.popleft()
            if handle._cancelled:
                continue
            try:
                self._current_handle = handle
                began = self.time()
                handle._run()
                took = self.time() - began
                if took >= self.slow_callback_duration:
                    log.warning("Executing %r took %.3f seconds", handle, took)
            finally:
                self._current_handle = None

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """Call `callback` at `when` on the loop's clock."""
        if when is None:
            raise TypeError("when cannot be None")
        self._check_closed()
        if self._debug:
            self._check_thread()
            self._check_callback(callback, "call_at")
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        if timer._source_traceback:  # type: ignore[attr-defined]
            del timer._source_traceback[-1]  # type: ignore[attr-defined]
        self._timers.push(when, timer)
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if handle._scheduled:  # type: ignore[attr-defined]
            self._timers.note_cancelled()

    def _write_to_self(self) -> None:
        self._thread_wakeup.wake()

    def _process_events(self, event_list: object) -> NoReturn:
        raise NotImplementedError("_process_events: events go straight to their sinks")

    def close(self) -> None:
        """Close the loop; it must not run."""
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        super().close()
        self._timers.clear()
        self._thread_wakeup.close()
        self._poller.close()

    def _debug_log(self, message: str, *args: object) -> None:
        log.debug(message, *args, exc_info=True)

    def _warn(self, message: str) -> None:
        log.warning(message)
