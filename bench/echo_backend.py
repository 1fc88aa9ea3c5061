"""The backend of the websocket scenario: `python -m bench.echo_backend PORT`.

It answers GET with a short text, switches to WebSockets where that is asked for, and sends every message back. As it
shares its core with the load, it knows no more than that: a frame that is fragmented, longer than 125 bytes, or not of
data ends the connection, as a close frame does.
"""

from __future__ import annotations

import select
import socket
import sys

from bench.backend import SMALL_BODY
from bench.proc import HOST
from bench.websocket import FrameError, accept_of, client_frame_size, echo_of

_SMALL = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (len(SMALL_BODY), SMALL_BODY)
_SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n"
)
_LONGEST_HEAD = 16384


class HeadError(Exception):
    """A request can't be answered."""


def answer_to(head: bytes) -> tuple[bytes, bool]:
    """The answer to a request's head, and whether the connection speaks WebSocket behind it."""
    start, *lines = head.split(b"\r\n")
    if not start.startswith(b"GET "):
        raise HeadError(f"a head began with {start[:40]!r}")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    if fields.get(b"upgrade", b"").lower() != b"websocket" or b"sec-websocket-key" not in fields:
        return _SMALL, False
    return _SWITCH % accept_of(fields[b"sec-websocket-key"]), True


class Connection:
    """One client: what it sent is taken in, and what is to be sent to it comes out."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._is_switched = False
        self._rest = b""

    def take(self, data: bytes) -> bytes:
        """The answers to everything that is whole by now. HeadError or FrameError when it can't go on."""
        if self._is_switched and not self._rest and len(data) >= 2 and len(data) == client_frame_size(data):
            return echo_of(data)
        self._rest += data
        answers = b""
        while not self._is_switched:
            head, end, rest = self._rest.partition(b"\r\n\r\n")
            if not end:
                if len(head) > _LONGEST_HEAD:
                    raise HeadError("a head does not end")
                return answers
            answer, self._is_switched = answer_to(head)
            answers += answer
            self._rest = rest
        while len(self._rest) >= 2 and len(self._rest) >= (size := client_frame_size(self._rest)):
            answers += echo_of(self._rest[:size])
            self._rest = self._rest[size:]
        return answers


def main(port: int) -> None:
    """Serve on HOST until the process is ended."""
    listener = socket.create_server((HOST, port), backlog=1024)
    connections: dict[int, Connection] = {}
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    listener_fd = listener.fileno()
    while True:
        for fd, _ in poll.poll():
            if fd == listener_fd:
                sock, _ = listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[sock.fileno()] = Connection(sock)
                poll.register(sock, select.POLLIN)
                continue
            connection = connections[fd]
            try:
                data = connection.sock.recv(16384)
                if data:
                    # The load waits for each answer: there is always room for it.
                    connection.sock.sendall(connection.take(data))
                    continue
            except (OSError, HeadError, FrameError):
                pass
            poll.unregister(fd)
            connections.pop(fd).sock.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
