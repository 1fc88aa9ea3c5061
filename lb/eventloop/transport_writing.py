"""How a stream transport writes: at once as far as the kernel takes it, and the rest when it takes more."""

from __future__ import annotations

import socket
from collections import deque
from typing import Any

from lb.eventloop.poller import WRITE
from lb.eventloop.transport_base import HIGH_WATER, TransportBase

_IOV_MAX = 64
_WARN_AFTER_LOST = 5


class WritingTransport(TransportBase):
    """The writing half of a transport."""

    __slots__ = ()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data` now as far as the kernel takes it; buffer the rest."""
        if self._send_now is None or type(data) is not bytes:
            self._check_write(data)
            if self._lost:
                return
            if self._buffer:
                self._buffer.append(data if type(data) is bytes else bytes(data))
                self._buffered += len(data)
                if self._buffered > self._high_water:
                    self._pause_protocol()
                return
        if not data:
            return
        try:
            sent = self._send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._fatal(error)
            return
        if sent < len(data):
            self._keep(data, sent)

    def _keep(self, data: bytes | bytearray | memoryview, sent: int) -> None:
        """Buffer what the kernel did not take: all behind the first `sent` bytes."""
        # What is not immutable may change before it is sent.
        rest = memoryview(data if type(data) is bytes else bytes(data))[sent:]
        self._send_now = None
        self._buffer = deque((rest,))
        self._buffered = len(rest)
        self._watch(self._interest | WRITE)
        if self._buffered > self._high_water:
            self._pause_protocol()

    def _check_write(self, data: Any) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self._eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._empty_waiter is not None:
            raise RuntimeError("unable to write; sendfile is in progress")
        if self._lost and data:
            if self._lost >= _WARN_AFTER_LOST:
                self._loop._warn("socket.send() raised exception.")
            self._lost += 1

    def _flush(self) -> None:
        buffer = self._buffer
        if not buffer:
            self._watch(self._interest & ~WRITE)
            return
        try:
            if len(buffer) == 1:
                sent = self._send(buffer[0])
            else:
                sent = self._sock.sendmsg([buffer[at] for at in range(min(len(buffer), _IOV_MAX))])
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._buffer = None
            self._buffered = 0
            self._fatal(error)
            return
        self._buffered -= sent
        partly = self._buffered and sent and len(buffer) > _IOV_MAX
        while sent:
            size = len(buffer[0])
            if size > sent:
                buffer[0] = memoryview(buffer[0])[sent:]
                break
            sent -= size
            buffer.popleft()
        if buffer:
            if partly:
                # There may be room for more, so the kernel does not say when there is.
                self._rearm()
            self._resume_protocol()
            return
        self._buffer = None
        self._reconsider()
        self._watch(self._interest & ~WRITE)
        was_closing, was_at_eof = self._closing, self._eof_written
        self._resume_protocol()
        if self._buffer or self._lost:
            # The protocol has written more, or given up.
            return
        if self._empty_waiter is not None and not self._empty_waiter.done():
            self._empty_waiter.set_result(None)
        if was_closing:
            self._connection_lost_soon(None)
        elif was_at_eof:
            self._shutdown_write()

    def can_write_eof(self) -> bool:
        """It can."""
        return True

    def write_eof(self) -> None:
        """Send a FIN behind what was written; go on reading."""
        if self._closing or self._eof_written:
            return
        self._eof_written = True
        self._send_now = None
        if not self._buffer:
            self._shutdown_write()

    def _shutdown_write(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._fatal(error)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes are buffered."""
        return self._buffered

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return (low, high)."""
        return self._low_water, self._high_water

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Pause the protocol above `high` buffered bytes, resume it at `low`."""
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high_water, self._low_water = high, low
        if self._buffered > high:
            self._pause_protocol()

    def _pause_protocol(self) -> None:
        if not self._protocol_paused:
            self._protocol_paused = True
            self._call_protocol(self._protocol.pause_writing, "protocol.pause_writing() failed")

    def _resume_protocol(self) -> None:
        if self._protocol_paused and self._buffered <= self._low_water:
            self._protocol_paused = False
            self._call_protocol(self._protocol.resume_writing, "protocol.resume_writing() failed")

    def _call_protocol(self, method: Any, failed: str) -> None:
        try:
            method()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._loop.call_exception_handler(
                {"message": failed, "exception": error, "transport": self, "protocol": self._protocol}
            )
