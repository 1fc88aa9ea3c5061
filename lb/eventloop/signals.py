"""Signal handlers that run as callbacks of the loop."""

from __future__ import annotations

import asyncio
import errno
import signal
import threading
from collections.abc import Callable
from typing import Any

from lb.eventloop.poller import READ
from lb.eventloop.turn import TurningLoop
from lb.eventloop.wakeup import SignalWakeup


class SignalLoop(TurningLoop):
    """Handles signals."""

    def __init__(self) -> None:
        super().__init__()
        self._signal_wakeup: SignalWakeup | None = None
        self._signal_handlers: dict[int, asyncio.Handle] = {}

    def close(self) -> None:
        """Close the loop; it must not run."""
        if not self.is_running() and not self.is_closed():
            for number in list(self._signal_handlers):
                self.remove_signal_handler(number)
        super().close()

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:  # type: ignore[override]
        """Call `callback` on the loop's thread when the signal comes. Only on the main thread."""
        if asyncio.iscoroutine(callback) or asyncio.iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        _check_signal(sig)
        self._check_closed()
        if self._signal_wakeup is None:
            self._signal_wakeup = SignalWakeup(self._signalled)
            self._poller.add(self._signal_wakeup.fileno(), self._signal_wakeup, READ)
        try:
            # Raises ValueError off the main thread.
            signal.set_wakeup_fd(self._signal_wakeup.writer.fileno())
        except (ValueError, OSError) as error:
            self._close_signal_wakeup()
            raise RuntimeError(str(error)) from None
        self._signal_handlers[sig] = asyncio.Handle(callback, args, self, None)
        try:
            # A handler of Python's own must be there for the byte to be written.
            signal.signal(sig, _noop)
            signal.siginterrupt(sig, False)
        except OSError as error:
            del self._signal_handlers[sig]
            self._close_signal_wakeup()
            if error.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from None
            raise

    def remove_signal_handler(self, sig: int) -> bool:
        """Restore what the signal did; returns whether there was a handler."""
        _check_signal(sig)
        if self._signal_handlers.pop(sig, None) is None:
            return False
        try:
            signal.signal(sig, signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from None
            raise
        self._close_signal_wakeup()
        return True

    def _close_signal_wakeup(self) -> None:
        """Close the pair when no handler is left."""
        if self._signal_handlers or self._signal_wakeup is None:
            return
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(-1)
        self._poller.remove(self._signal_wakeup.fileno())
        self._signal_wakeup.close()
        self._signal_wakeup = None

    def _signalled(self, number: int) -> None:
        handle = self._signal_handlers.get(number)
        if handle is not None and not handle.cancelled():
            self._ready.append(handle)


def _noop(number: int, frame: object) -> None:
    """Nothing: the byte in the wake-up socket is what counts."""


def _check_signal(sig: object) -> None:
    if not isinstance(sig, int):
        raise TypeError(f"sig must be an int, not {sig!r}")
    if sig not in signal.valid_signals():
        raise ValueError(f"invalid signal number {sig}")
