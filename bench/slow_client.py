"""The load of the slow-client scenario: connections that read long responses a little at a time.

Run as bench/clients.py says. Each asks for BULK_BODY and reads 16 KiB at a time, 16 times a second, with a receive
buffer as small as that: whatever the backend sends faster waits in the balancer, or the balancer makes the backend
wait. A response takes four seconds, so that a request counts when its answer has begun. Every byte is compared. Those
that differ, and heads that announce another length, count as wrong; connections that ended, or had nothing to read in
the end for more than a second, as socket errors.
"""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import time

from bench.backend import BULK_BODY, BULK_PATH
from bench.clients import ANSWER_TIMEOUT, SHORTEST_SECONDS, percentile_ms, serve
from bench.load import LoadResult
from bench.proc import HOST

RECEIVE_BUFFER = 16384
"""Asked for; Linux takes twice as much and keeps half of that for itself."""
SEGMENT_BYTES = 1460
"""As on an Ethernet. With the 64 KiB of the loopback Linux takes a response into the socket's send buffer as fast as it
is written, whoever reads it, and nothing is left for the balancer to hold."""
READ_BYTES = 16384
READS_PER_SECOND = 16
_STALLED_SECONDS = 1.0
_REQUEST = f"GET {BULK_PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+) *\r\n", re.IGNORECASE)


class WrongAnswerError(Exception):
    """An answer is not that of the backend."""


class RefusedError(WrongAnswerError):
    """Its status is not 200."""


class Reader:
    """One connection, and how far its response has come."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.begun = 0
        """Answers of which there was a byte."""
        self.first_bytes: list[float] = []
        """Seconds until it came, for each of them."""
        self.progress_at = 0.0
        self._head = b""
        self._offset = -1  # below 0 while the head is read
        self._asked_at = 0.0

    def ask(self, now: float) -> None:
        """Send a request."""
        self.sock.send(_REQUEST)
        self._asked_at = self.progress_at = now
        self._head, self._offset = b"", -1

    def read(self, now: float) -> int:
        """Read once, if there is something; how many bytes. WrongAnswerError, or OSError when the connection ended."""
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return 0
        if not data:
            raise ConnectionError("closed")
        self.progress_at = now
        self._take(data, now)
        return len(data)

    def _take(self, data: bytes, now: float) -> None:
        if self._offset < 0:
            if not self._head:
                self.begun += 1
                self.first_bytes.append(now - self._asked_at)
            head, end, data = (self._head + data).partition(b"\r\n\r\n")
            if not end:
                self._head = head
                return
            if not head.startswith(b"HTTP/1.1 200 "):
                raise RefusedError(repr(head[:60]))
            length = _LENGTH.search(head + b"\r\n")
            if length is None or int(length[1]) != len(BULK_BODY):
                raise WrongAnswerError("another length")
            self._offset = 0
        if data != BULK_BODY[self._offset : self._offset + len(data)]:
            raise WrongAnswerError(f"another byte behind {self._offset}")
        self._offset += len(data)
        if self._offset == len(BULK_BODY):
            self.ask(now)


def _connect(port: int) -> socket.socket:
    sock = socket.socket()
    try:
        sock.settimeout(ANSWER_TIMEOUT)
        # Both are told to the other side when the connection is made.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if sys.platform == "linux":  # others have their own rules for when this may be set, and to what
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
        sock.connect((HOST, port))
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


class SlowLoad:
    """So many slow readers on a port."""

    def __init__(self, port: int, connections: int) -> None:
        self._readers: list[Reader] = []
        self._lost = 0
        for _ in range(connections):
            try:
                self._readers.append(Reader(_connect(port)))
            except OSError:
                self._lost += 1

    def run(self, seconds: float) -> LoadResult:
        """Ask on each connection, and read for so long."""
        begun = time.monotonic()
        readers: list[Reader | None] = []
        bytes_read = refused = wrong = 0
        for reader in self._readers:
            try:
                reader.ask(begun)
                readers.append(reader)
            except OSError:
                self._lost += 1
        turn = 0
        while (now := time.monotonic()) < begun + seconds and any(readers):
            # Each in its turn, evenly over the time: all at once would be a load of another kind.
            due = begun + turn / (READS_PER_SECOND * len(readers))
            if due > now:
                time.sleep(due - now)
                now = time.monotonic()
            index = turn % len(readers)
            turn += 1
            if (current := readers[index]) is None:
                continue
            try:
                bytes_read += current.read(now)
                continue
            except RefusedError:
                refused += 1
            except WrongAnswerError:
                wrong += 1
            except OSError:
                self._lost += 1
            readers[index] = None
        stalled = sum(each is not None and each.progress_at < now - _STALLED_SECONDS for each in readers)
        first_bytes = sorted(each for reader in self._readers for each in reader.first_bytes)
        return LoadResult(
            requests=sum(reader.begun for reader in self._readers),
            bytes_read=bytes_read,
            seconds=max(now - begun, SHORTEST_SECONDS),
            p50_ms=percentile_ms(first_bytes, 50),
            p99_ms=percentile_ms(first_bytes, 99),
            non_2xx=refused,
            socket_errors=self._lost + stalled,
            wrong=wrong,
        )

    def close(self) -> None:
        """Close all connections."""
        for reader in self._readers:
            with contextlib.suppress(OSError):
                reader.sock.close()


if __name__ == "__main__":
    serve(SlowLoad, sys.argv[1:])
