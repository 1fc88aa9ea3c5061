"""Ports of 127.0.0.1 that refuse, or swallow, whoever connects."""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress

from lb.endpoint import Endpoint, make_endpoint


def bind(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def close_listener(sock: socket.socket) -> None:
    with suppress(OSError):  # macOS: close does it
        sock.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept
    sock.close()


def fill_queue(sock: socket.socket) -> list[socket.socket]:
    """Let a bound socket listen with a queue that is full; return the connections in it."""
    sock.listen(0)
    fillers = []
    while True:
        # struct tcp_info, of a listening socket: tcpi_unacked is the length of its queue, tcpi_sacked the limit.
        unacked, sacked = struct.unpack_from("II", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)
        if unacked > sacked:
            return fillers
        filler = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        filler.setblocking(False)
        filler.connect_ex(sock.getsockname())
        fillers.append(filler)


class BlackHole:
    """A port on which connects are neither accepted nor refused: the queue of its listening socket is full (Linux).

    Until `up` they are refused.
    """

    is_possible = sys.platform == "linux"

    def __init__(self, *, is_up: bool = True) -> None:
        self._socket = bind(0)
        self.port: int = self._socket.getsockname()[1]
        self._fillers: list[socket.socket] = []
        if is_up:
            self.up()

    def up(self) -> None:
        """Swallow connects from now on."""
        self._fillers = fill_queue(self._socket)

    @property
    def value(self) -> Endpoint:
        return make_endpoint("127.0.0.1", self.port)

    def stop(self) -> None:
        for sock in (*self._fillers, self._socket):
            sock.close()
