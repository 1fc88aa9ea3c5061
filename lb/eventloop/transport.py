"""A TCP or Unix stream socket as an asyncio transport, told of readiness without anything in between."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

from lb.eventloop.poller import ERROR, HANG_UP, NOT_READING, PEER_CLOSED, READ, READS_INTO_BUFFER, WRITE
from lb.eventloop.transport_base import HIGH_WATER, TransportBase

_READ_LARGE = 262144
_IOV_MAX = 64
_WARN_AFTER_LOST = 5


class SocketTransport(TransportBase):
    """The transport of one connected stream socket.

    The contract is that of asyncio's own. Beyond it: a protocol with a method `peer_closed` is told of a FIN that comes
    while reading is paused, and a reset is reported whether or not it reads.
    """

    __slots__ = ()

    # Start

    def start(self, waiter: asyncio.Future[None] | None = None, *, read_now: bool = False) -> None:
        """Tell the protocol that it is connected, and read from now on; `read_now` also tries to read at once."""
        self._starting = False
        try:
            if not self._closing:
                self._protocol.connection_made(self)
        finally:
            if not self._closing:
                if not self._paused:
                    self.reading = self._way_to_read
                self._watch(READ | PEER_CLOSED)
                if read_now and self.reading:
                    # Most clients have sent their request by the time they are accepted.
                    self._read()
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    # Events

    def ready(self, events: int) -> None:
        """Read and write as far as one call goes."""
        if events & ~WRITE:
            if not self.reading:
                self._not_reading(events)
            else:
                self._read()
                if events & ~(READ | WRITE):
                    self._read_behind(events)
        if events & WRITE or (events & (ERROR | HANG_UP) and self._buffer):
            self._flush()

    def _read_behind(self, events: int) -> None:
        """A FIN, or an error, may stand behind the bytes that were just read: it is not reported again."""
        if self.reading:
            self._read()
        if self.reading:
            self._rearm()
        elif self._paused and not self._closing:
            self._not_reading(events)

    def _not_reading(self, events: int) -> None:
        """Something can be read, but must not be now. A reset is told all the same, and so is a FIN."""
        self._missed = True
        if events & ERROR or (events & HANG_UP and not self._eof_written and not self._read_eof):
            error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self._fatal(OSError(error, "connection lost"))
                return
        if events & PEER_CLOSED and not self._peer_closed and not self._read_eof and not self._closing:
            self._peer_closed = True
            told = getattr(self._protocol, "peer_closed", None)
            if told is not None:
                told()

    def _read(self) -> None:
        if self.reading == READS_INTO_BUFFER:
            self._read_into()
            return
        try:
            data = self._receive(self._read_size)
        except OSError as error:
            self._read_failed(error)
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        """Pass on what was read; see to it that more is, if more may be there."""
        if not data:
            self._eof()
            return
        filled = len(data) == self._read_size
        if filled:
            self._read_size = _READ_LARGE
        try:
            self._protocol.data_received(data)
        except BaseException as error:
            self._protocol_failed(error, "data_received")
            return
        if filled:
            self._read_again()

    def _read_again(self) -> None:
        """The last read was filled: go on in the next turn, when others have had theirs."""
        if self.reading:
            self._rearm()
        else:
            self._missed = True

    def _read_failed(self, error: OSError) -> None:
        if not isinstance(error, (BlockingIOError, InterruptedError)):
            self._fatal(error)

    def _protocol_failed(self, error: BaseException, method: str) -> None:
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            raise error
        self._fatal(error, f"Fatal error: protocol.{method}() call failed.")

    def _read_into(self) -> None:
        try:
            buffer = self._protocol.get_buffer(-1)
            size = len(buffer)
            if not size:
                raise RuntimeError("get_buffer() returned an empty buffer")
        except BaseException as error:
            self._protocol_failed(error, "get_buffer")
            return
        try:
            count = self._sock.recv_into(buffer)
        except OSError as error:
            self._read_failed(error)
            return
        if not count:
            self._eof()
            return
        try:
            self._protocol.buffer_updated(count)
        except BaseException as error:
            self._protocol_failed(error, "buffer_updated")
            return
        if count == size:
            self._read_again()

    def _eof(self) -> None:
        self._read_eof = True
        self.reading = NOT_READING
        try:
            keep_open = self._protocol.eof_received()
        except BaseException as error:
            self._protocol_failed(error, "eof_received")
            return
        if keep_open:
            self._watch((self._interest & WRITE) | ERROR)
        else:
            self.close()

    # Reading

    def is_reading(self) -> bool:
        """Does it read?"""
        return not self._closing and not self._paused

    def pause_reading(self) -> None:
        """Stop reading. The kernel is asked for nothing: what arrives meanwhile is reported once and remembered."""
        if not self._closing:
            self._paused = True
            self.reading = NOT_READING

    def resume_reading(self) -> None:
        """Read on."""
        if self._closing or not self._paused:
            return
        self._paused = False
        if not self._starting and not self._read_eof:
            self.reading = self._way_to_read
            if self._missed:
                self._missed = False
                self._rearm()

    # Writing

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
        self._resume_protocol()
        if self._empty_waiter is not None:
            self._empty_waiter.set_result(None)
        if self._closing:
            self._connection_lost_soon(None)
        elif self._eof_written:
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


class Written(Protocol):
    """Who wants to know whether it was written."""

    written: bool


def write_each(held: Iterable[tuple[Any, bytes, Written | None]]) -> None:
    """Write bytes to each transport, and mark who is given with them as written.

    The same as `write` of each, except that one that is closing is passed over. For the small writes of a turn, all at
    its end: without a call a write it costs 0.2 µs less each.
    """
    for transport, data, writer in held:
        try:
            send = transport._send_now
        except AttributeError:
            # TLS, say: somebody else's transport over one of ours.
            send = None
        if send is not None:
            try:
                sent = send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                transport._fatal(error)
                continue
            if sent < len(data):
                transport._keep(data, sent)
        elif transport.is_closing():
            continue
        else:
            transport.write(data)
        if writer is not None:
            writer.written = True
