"""What interrupts a loop that waits: another thread, or a signal."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from lb.eventloop.poller import Sink


class ThreadWakeup(Sink):
    """An eventfd that other threads write to. Any number of writes between two turns of the loop is one event."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._fd

    def wake(self) -> None:
        """Interrupt the loop. From any thread; does nothing once closed."""
        fd = self._fd
        if fd >= 0:
            try:
                os.eventfd_write(fd, 1)
            except (BlockingIOError, OSError):
                # The counter is full, so the loop is about to wake; or it was closed just now.
                return

    def ready(self, events: int) -> None:
        """The loop is awake: that was all."""
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Close the descriptor."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class SignalWakeup(Sink):
    """A socket pair for `signal.set_wakeup_fd`, which writes a byte a signal (an eventfd takes eight or none)."""

    def __init__(self, on_signal: Callable[[int], None]) -> None:
        self._on_signal = on_signal
        self._reader, self.writer = socket.socketpair()
        self._reader.setblocking(False)
        self.writer.setblocking(False)

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._reader.fileno()

    def ready(self, events: int) -> None:
        """Signals came: tell each."""
        while True:
            try:
                numbers = self._reader.recv(4096)
            except (BlockingIOError, InterruptedError):
                return
            if not numbers:
                return
            for number in numbers:
                if number:
                    self._on_signal(number)

    def close(self) -> None:
        """Close both ends."""
        self._reader.close()
        self.writer.close()
