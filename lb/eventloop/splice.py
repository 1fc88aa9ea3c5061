"""Bytes that go from one socket to another through a pipe, without entering Python: splice(2).

Facts that this relies on:

- splice moves references to pages, not bytes; one side of it must be a pipe. What a pipe holds is counted in slots as
  well as in bytes, so a short count does not mean that the source is drained.
- os.splice (3.11) takes no flags. It does not block because sockets and pipe are all O_NONBLOCK.
- The target may take less than is in the pipe. What it did not take is read out of the pipe at once and buffered like
  any other write: back-pressure, closing and aborting are then the transport's, as always; the pipe is empty between
  two calls, and a loop needs only one. A slow reader costs a copy of at most a pipe in every window.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lb.eventloop.transport import SocketTransport

SPLICE_FROM = 98304
"""From how many bytes that are left on it costs less than reading and writing (docs/decisions/0005-splice.md)."""
PIPE_BYTES = 262144
_ROUNDS = 4
_COPIED_BYTES = 122880
_UNFIT = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})


class Pipe:
    """A pipe that is empty between two calls."""

    def __init__(self) -> None:
        self._open()

    def _open(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # A user without privileges who has many pipes gets no larger one: this one stays at 64 KiB, or less.
        with suppress(OSError):
            fcntl.fcntl(self._writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.size = fcntl.fcntl(self._writer, fcntl.F_GETPIPE_SZ)
        """How many bytes it holds at most."""

    def fill(self, fd: int, count: int) -> int:
        """Take up to `count` bytes from a socket; 0 at its end. Raises OSError."""
        return os.splice(fd, self._writer, count)

    def empty(self, fd: int, count: int) -> int:
        """Give the `count` bytes that are in it to a socket; return how many were taken. Raises OSError."""
        return os.splice(self._reader, fd, count)

    def take(self, count: int) -> bytes:
        """Read the `count` bytes that are in it."""
        pieces = []
        while count:
            piece = os.read(self._reader, count)
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def renew(self) -> None:
        """Forget what is in it: take another. Raises OSError."""
        self.close()
        self._open()

    def close(self) -> None:
        """Close both ends."""
        os.close(self._reader)
        os.close(self._writer)


class Splice:
    """The next `left` bytes of `source` go to `target`; its protocol's `spliced(count)` is told how many have gone."""

    __slots__ = ("_left", "_pipe", "_source", "_target")

    def __init__(self, source: SocketTransport, target: SocketTransport, left: int, pipe: Pipe) -> None:
        self._source = source
        self._target = target
        self._left = left
        self._pipe = pipe

    def read(self) -> None:
        """The source can be read: move a bite of what is there."""
        source, target = self._source, self._target
        for _ in range(_ROUNDS):
            if target._eof_written or target._empty_waiter is not None:
                source._fatal(RuntimeError("it takes no writes"), "Fatal error: the target of a splice failed.")
                return
            if not self._left:
                # Somebody wanted out (SystemExit) before that could be said.
                source.end_splice()
                break
            asked = min(self._left, self._pipe.size)
            try:
                count = self._move(asked)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno not in _UNFIT:
                    source._fatal(error)
                    return
                source._splices = False
                source.end_splice()
                break
            if not count:
                source.end_splice()
                source._eof()
                return
            if not self._left:
                source.end_splice()
            try:
                source._protocol.spliced(count)
            except BaseException as error:
                source._protocol_failed(error, "spliced")
                return
            if source._splice is not self or not source.reading or count < asked // 2:
                break
        source._read_again()

    def _move(self, most: int) -> int:
        """Move up to `most` bytes; return how many, 0 at the end of the source. Raises OSError of the source."""
        if self._target._send_now is None:
            # Bytes are buffered that go first, or the target is closing: these go the same way.
            data = self._source._receive(min(most, _COPIED_BYTES))
            self._left -= len(data)
            if data:
                self._target.write(data)
            return len(data)
        count = self._pipe.fill(self._source._fd, most)
        self._left -= count
        if count:
            self._pass_on(count)
        return count

    def _pass_on(self, count: int) -> None:
        """Give the target what is in the pipe."""
        target = self._target
        rest = b""
        try:
            try:
                count -= self._pipe.empty(target._fd, count)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                if error.errno not in _UNFIT:
                    target._fatal(error)
            if count:
                rest = self._pipe.take(count)
        except BaseException:
            # KeyboardInterrupt, say. What is left in the pipe must not go to anybody else.
            self._pipe.renew()
            raise
        if rest and not target._lost:
            target._keep(rest, 0)
