"""SHELL: owns listening sockets: accepts in batches, can pause, and can be closed without losing who waits.

asyncio.Server can do neither of the last two.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any

from lb.endpoint import format_authority

log = logging.getLogger(__name__)

_BATCH = 64
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_EXHAUSTED_PAUSE = 0.5


class ListenError(Exception):
    """A socket cannot be bound. One line: which, why, and what to do."""


def bind_sockets(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Return sockets that listen on `host`:`port`; a name may stand for several, `::` is both families.

    Port 0 takes any free port, the same one for all of them. Raises ListenError.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ListenError(
            f"can't listen on {host}: {error.strerror or error}: set host to an address of this machine"
        ) from None
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted connections inherit it. With Nagle's algorithm the end of a long response would wait for the
            # client's delayed acknowledgement, 40 ms.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
            sock.bind((address[0], port, *address[2:]))
            port = sock.getsockname()[1]
            sock.listen(backlog)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise ListenError(_explain(host, port, error)) from None
    return sockets


def _explain(host: str, port: int, error: OSError) -> str:
    place = format_authority(host, port)
    if error.errno == errno.EADDRINUSE:
        return f"can't listen on {place}: the port is taken: stop what listens there, or set another port"
    if error.errno == errno.EACCES:
        return f"can't listen on {place}: not allowed: ports below 1024 need privileges, set another port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"can't listen on {place}: not an address of this machine: set host to 0.0.0.0, or to one that is"
    return f"can't listen on {place}: {error.strerror}"


MakeTransport = Callable[[asyncio.BaseProtocol, socket.socket, Any], object]
"""Gives a connected socket its transport and its protocol, at once; the last argument is its peer's address."""

Accept = Callable[[], tuple[socket.socket, Any]]
"""Returns a connection, non-blocking, and its peer's address. Raises OSError as `socket.accept` does."""


def _acceptor(sock: socket.socket) -> Accept:
    def accept() -> tuple[socket.socket, Any]:
        connection, address = sock.accept()
        connection.setblocking(False)
        return connection, address

    return accept


class Listener:
    """Accepts connections from `sockets` and gives each a protocol from `factory`."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        factory: Callable[[], asyncio.BaseProtocol],
        loop: asyncio.AbstractEventLoop,
        *,
        has_room: Callable[[int], bool] = lambda starting: True,
        make_room: Callable[[], bool] = lambda: False,
        on_pause: Callable[[], None] = lambda: None,
    ) -> None:
        """`has_room` says before each accept whether another connection may come, beside those that are just starting.

        When it says no, `make_room` may close one for it. When that says no as well, accepting pauses until `resume`.
        """
        self._sockets = list(sockets)
        # Our own loop knows a shorter way.
        acceptor = getattr(loop, "acceptor", _acceptor)
        self._acceptors: dict[socket.socket, Accept] = {sock: acceptor(sock) for sock in sockets}
        self._factory = factory
        self._loop = loop
        self._has_room = has_room
        self._make_room = make_room
        self._on_pause = on_pause
        self._starting: set[asyncio.Task[object]] = set()
        # Our own loop needs no task for it.
        self._make_transport: MakeTransport | None = getattr(loop, "make_transport", None)
        self._accepting = False
        self._is_full = False
        """Is accepting paused because there is no room?"""
        self._retry: asyncio.TimerHandle | None = None

    @property
    def addresses(self) -> list[str]:
        """The bound addresses, for people."""
        return [format_authority(*sock.getsockname()[:2]) for sock in self._sockets]

    @property
    def port(self) -> int:
        """The bound port."""
        return int(self._sockets[0].getsockname()[1])

    def start(self) -> None:
        """Begin to accept."""
        self._accepting = True
        self._is_full = False
        for sock in self._sockets:
            self._loop.add_reader(sock, self._accept, self._acceptors[sock])

    def pause(self) -> None:
        """Accept no more for now; clients wait in the kernel's queue."""
        if self._accepting:
            self._accepting = False
            for sock in self._sockets:
                self._loop.remove_reader(sock)

    def resume(self) -> None:
        """Accept again, if it was paused."""
        if not self._accepting and self._sockets:
            if self._retry is not None:
                self._retry.cancel()
                self._retry = None
            self.start()

    async def close(self) -> None:
        """Accept what waits in the queue, then close: closing first would reset those clients.

        Returns when all of them have their protocols.
        """
        self.pause()
        if self._retry is not None:
            self._retry.cancel()
        sockets, self._sockets = self._sockets, []
        acceptors, self._acceptors = self._acceptors, {}
        for sock in sockets:
            while self._accept_one(acceptors[sock]):
                pass
            sock.close()
        if self._starting:
            await asyncio.wait(self._starting)

    def _accept(self, accept: Accept) -> None:
        for number in range(_BATCH):
            if not self._has_room(len(self._starting)):
                if number:
                    # Whether anybody waits to be let in shows in the next turn: room is made for nobody else.
                    return
                if not self._make_room():
                    self._is_full = True
                    self._on_pause()
                    self.pause()
                    return
            if not self._accept_one(accept):
                return

    def _accept_one(self, accept: Accept) -> bool:
        """Accept one connection. Returns False when there is none, or no descriptor for it."""
        try:
            connection, address = accept()
        except (BlockingIOError, InterruptedError):
            return False
        except ConnectionAbortedError:
            return True
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            log.error("can't accept: %s: raise the limit of open files, or lower maxConnections", error.strerror)
            if self._accepting:
                self.pause()
                self._retry = self._loop.call_later(_EXHAUSTED_PAUSE, self.resume)
            return False
        if self._make_transport is not None:
            self._make_transport(self._factory(), connection, address)
            return True
        task = self._loop.create_task(self._serve(connection))
        self._starting.add(task)
        task.add_done_callback(self._started)
        return True

    def _started(self, task: asyncio.Task[object]) -> None:
        """A connection has its protocol, or none any more: it no longer counts as starting."""
        self._starting.discard(task)
        if self._is_full and self._has_room(len(self._starting)):
            self.resume()

    async def _serve(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, connection)
        except OSError:
            # The client reset the connection between accept and here.
            connection.close()
