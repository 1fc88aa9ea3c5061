"""The load of the websocket scenario: each connection sends a message, waits for its echo, and sends it again.

Run as bench/clients.py says. Every connection has a message of its own, so that an echo that went to another one is
seen. Refused handshakes count as responses other than 2xx, echoes that differ as wrong, and connections that ended, or
waited for an echo in the end for more than a second, as socket errors.
"""

from __future__ import annotations

import base64
import contextlib
import os
import select
import socket
import sys
import time

from bench.clients import ANSWER_TIMEOUT, SHORTEST_SECONDS, percentile_ms, serve
from bench.load import LoadResult
from bench.peers.peer import WEBSOCKET_PATH
from bench.proc import HOST
from bench.websocket import accept_of, client_frame, server_frame

MESSAGE_BYTES = 100
_STALLED_SECONDS = 1.0
_POLL_MS = 100
_LONGEST_HEAD = 16384


class HandshakeError(Exception):
    """The server did not switch to WebSockets."""


def _read_head(sock: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        data = sock.recv(4096)
        if not data or len(head) > _LONGEST_HEAD:
            raise HandshakeError(f"no whole answer, but {head[:60]!r}")
        head += data
    if not head.endswith(b"\r\n\r\n"):
        raise HandshakeError(f"more than an answer, to nothing that was sent: {head[-60:]!r}")
    return head


def handshake(port: int) -> socket.socket:
    """A connection that was switched to WebSockets. OSError or HandshakeError when it was not."""
    sock = socket.create_connection((HOST, port), ANSWER_TIMEOUT)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16))
        sock.sendall(
            b"GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n"
            % (WEBSOCKET_PATH.encode(), HOST.encode(), port, key)
        )
        start, *lines = _read_head(sock).split(b"\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        if not start.startswith(b"HTTP/1.1 101 ") or fields.get(b"upgrade", b"").lower() != b"websocket":
            raise HandshakeError(f"the answer began with {start[:60]!r}")
        if fields.get(b"sec-websocket-accept") != accept_of(key):
            raise HandshakeError("Sec-WebSocket-Accept does not fit the key")
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


class _Talk:
    """One connection: its message, and since when it waits for the echo."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        message = f"{number:06d} ".encode() + b"x" * (MESSAGE_BYTES - 7)
        self.frame, self.echo = client_frame(message), server_frame(message)
        self.received = b""
        self.sent_at = 0.0


class WebSocketLoad:
    """So many WebSockets to a port."""

    def __init__(self, port: int, connections: int) -> None:
        self._refused = 0
        self._talks: dict[int, _Talk] = {}
        for number in range(connections):
            try:
                sock = handshake(port)
            except (OSError, HandshakeError) as error:
                print(f"connection {number + 1} of {connections}: {error}", file=sys.stderr)
                self._refused += 1
            else:
                self._talks[sock.fileno()] = _Talk(sock, number)

    def run(self, seconds: float) -> LoadResult:
        """Send and wait for so long."""
        clock = time.monotonic
        talks, poll = self._talks, select.poll()
        latencies: list[float] = []
        bytes_read = wrong = lost = 0
        begun = now = clock()
        for fd, talk in talks.items():
            poll.register(fd, select.POLLIN)
            talk.sent_at = clock()
            with contextlib.suppress(OSError):  # a connection that ended is seen when it is read
                talk.sock.send(talk.frame)
        while talks and now < begun + seconds:
            for fd, _ in poll.poll(_POLL_MS):
                talk = talks[fd]
                try:
                    data = talk.sock.recv(4096)
                    now = clock()
                    bytes_read += len(data)
                    if talk.received:
                        data = talk.received + data
                    if data == talk.echo:
                        latencies.append(now - talk.sent_at)
                        talk.received = b""
                        talk.sent_at = now
                        talk.sock.send(talk.frame)
                        continue
                    if len(data) > len(talk.received) and talk.echo.startswith(data):
                        talk.received = data
                        continue
                    is_lost = len(data) == len(talk.received)
                except OSError:
                    is_lost = True
                wrong, lost = (wrong, lost + 1) if is_lost else (wrong + 1, lost)
                poll.unregister(fd)
                talks.pop(fd).sock.close()
            now = clock()
        latencies.sort()
        return LoadResult(
            requests=len(latencies),
            bytes_read=bytes_read,
            seconds=max(now - begun, SHORTEST_SECONDS),
            p50_ms=percentile_ms(latencies, 50),
            p99_ms=percentile_ms(latencies, 99),
            non_2xx=self._refused,
            socket_errors=lost + sum(talk.sent_at < now - _STALLED_SECONDS for talk in talks.values()),
            wrong=wrong,
        )

    def close(self) -> None:
        """Close all connections."""
        for talk in self._talks.values():
            talk.sock.close()


if __name__ == "__main__":
    serve(WebSocketLoad, sys.argv[1:])
