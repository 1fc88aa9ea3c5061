"""A TCP or Unix stream socket as an asyncio transport, told of readiness without anything in between."""

from __future__ import annotations

import asyncio
import socket

from lb.eventloop.poller import (
    ERROR,
    HANG_UP,
    NOT_READING,
    PEER_CLOSED,
    READ,
    READS_DATA,
    READS_INTO_BUFFER,
    SPLICES,
    WRITE,
)
from lb.eventloop.splice import Splice
from lb.eventloop.transport_base import READ_MEDIUM, READ_SMALL
from lb.eventloop.transport_writing import WritingTransport

# 128 KiB or more is memory that malloc maps, or trims off the heap, anew for each read, and every page of it faults:
# bodies of 256 KiB cost 240 µs with reads of 256 KiB, 90 with these.
_READ_LARGE = 122880


class SocketTransport(WritingTransport):
    """The transport of one connected stream socket.

    The contract is that of asyncio's own. Beyond it: a protocol with a method `peer_closed_while_paused` is told of a
    FIN that comes while reading is paused, and a reset is reported whether or not it reads.
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
                try:
                    self._watch(self._interest | READ | PEER_CLOSED)
                except OSError as error:
                    # The limit of watched descriptors, or memory.
                    self._fatal(error)
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
            told = getattr(self._protocol, "peer_closed_while_paused", None)
            if told is not None:
                try:
                    told()
                except BaseException as error:
                    self._protocol_failed(error, "peer_closed_while_paused")

    def _read(self) -> None:
        if self.reading == READS_INTO_BUFFER:
            self._read_into()
            return
        if self._splice is not None:
            self._splice.read()
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
        failed: OSError | None = None
        if filled and self._read_size == READ_SMALL:
            # Longer messages than most come here: this read goes on, and the next ones are larger.
            self._read_size = READ_MEDIUM
            try:
                more = self._receive(READ_MEDIUM)
            except (BlockingIOError, InterruptedError):
                filled = False
            except OSError as error:
                failed = error
            else:
                data += more
                # At the end, which stands behind these bytes, nothing more comes: it is read again by itself.
                filled = len(more) in (0, READ_MEDIUM)
        if filled and len(data) >= READ_MEDIUM:
            self._read_size = _READ_LARGE
        try:
            self._protocol.data_received(data)
        except BaseException as error:
            self._protocol_failed(error, "data_received")
            return
        if failed is not None:
            self._fatal(failed)
        elif filled:
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
        except BaseException as error:
            # It is not a buffer that can be written to.
            self._protocol_failed(error, "get_buffer")
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
        if self._lost:
            # It was closed there: watched again, its number would be taken for the next socket's.
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
            self.reading = self._way_to_read if self._splice is None else SPLICES
            if self._missed:
                self._missed = False
                self._rearm()

    # Splicing

    def splice_to(self, target: object, count: int) -> bool:
        """Let the next `count` bytes go to `target` through the kernel; returns False if that can't be.

        Instead of `data_received` the protocol's `spliced(count)` is called, with how many have passed. After the last
        of them, or when splice(2) turns out to be refused for these sockets, bytes come to `data_received` again. Until
        then nobody else may write to `target`. Pausing this transport, and `target`'s buffer limits, work as ever.
        """
        if not isinstance(target, SocketTransport) or not self._splices or self._way_to_read != READS_DATA:
            return False
        if target._loop is not self._loop or self._closing or self._read_eof or count <= 0:
            return False
        try:
            pipe = self._loop._splice_pipe()
        except OSError:
            # No descriptors are left.
            return False
        self._splice = Splice(self, target, count, pipe)
        # The next head is short again.
        self._read_size = READ_SMALL
        if self.reading:
            self.reading = SPLICES
        return True
