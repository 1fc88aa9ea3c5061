"""Connections and servers: transports, TLS, accepting, sendfile."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from asyncio import sslproto
from collections.abc import Callable
from typing import Any

from lb.eventloop.poller import READ, Sink
from lb.eventloop.splice import SPLICE_FROM
from lb.eventloop.transport import SocketTransport
from lb.eventloop.watching import WatchingLoop

_ACCEPT_BATCH = 64
_ACCEPT_PAUSE = 1.0
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


Accept = Callable[[], tuple[socket.socket, Any]]
"""Returns a connection, non-blocking, and its peer's address. Raises OSError as `socket.accept` does."""


def acceptor(listening: socket.socket, make_socket: Callable[..., Any] = socket.SocketType) -> Accept:
    """Return what accepts from a listening socket.

    `socket.accept` makes enumerations of family and type each time, and asks about time-outs; without that, and with
    the plain type below `socket.socket` (no `dup`, no `makefile`), it takes 2 µs instead of 4.
    """
    family, kind, protocol = int(listening.family), int(listening.type), listening.proto
    take = listening._accept  # type: ignore[attr-defined]

    def accept() -> tuple[socket.socket, Any]:
        fd, address = take()
        connection = make_socket(family, kind, protocol, fd)
        connection.setblocking(False)
        return connection, address

    return accept


class _Listening(Sink):
    """A listening socket of a server: accepts a batch, makes a transport of each and starts it at once."""

    def __init__(
        self, loop: ServingLoop, sock: socket.socket, make_transport: Callable[[socket.socket, Any], None]
    ) -> None:
        self._loop = loop
        self._sock = sock
        # Whoever serves with create_server may ask the transport for its socket, and that for anything.
        self._accept = acceptor(sock, socket.socket)
        self._make_transport = make_transport

    def ready(self, events: int) -> None:
        """Accept."""
        for _ in range(_ACCEPT_BATCH):
            try:
                connection, address = self._accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._failed(error)
                return
            try:
                self._make_transport(connection, address)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                if connection.fileno() not in self._loop._transports:
                    connection.close()
                self._loop.call_exception_handler(
                    {"message": "Error on transport creation for incoming connection", "exception": error}
                )

    def _failed(self, error: OSError) -> None:
        if error.errno in _EXHAUSTED:
            self._loop.call_exception_handler(
                {"message": "socket.accept() out of system resource", "exception": error, "socket": self._sock}
            )
            self._loop._poller.remove(self._sock.fileno())
            self._loop.call_later(_ACCEPT_PAUSE, self.start)
        else:
            self._loop.call_exception_handler(
                {"message": "socket.accept() failed", "exception": error, "socket": self._sock}
            )

    def start(self) -> None:
        """Accept from now on, if it is still open."""
        fd = self._sock.fileno()
        if fd >= 0 and self._loop._listening.get(fd) is self:
            self._loop._poller.add(fd, self, READ)


class ServingLoop(WatchingLoop):
    """Makes transports, and accepts for servers."""

    def __init__(self) -> None:
        super().__init__()
        self._listening: dict[int, _Listening] = {}
        self._handshakes: set[asyncio.Task[None]] = set()

    acceptor = staticmethod(acceptor)

    def make_transport(
        self, protocol: asyncio.BaseProtocol, sock: socket.socket, peername: Any = None
    ) -> SocketTransport:
        """Make a transport for a connected, non-blocking socket and start it now, without a task.

        The socket's options are the caller's: TCP_NODELAY on the listening socket saves setting it on each.
        """
        transport = SocketTransport(self, sock, protocol, extra=None if peername is None else {"peername": peername})
        transport.start(read_now=True)
        return transport

    splice_from = SPLICE_FROM

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
    ) -> SocketTransport:
        self._check_no_transport(sock.fileno())
        transport = SocketTransport(self, sock, protocol, extra=extra, server=server)
        transport.remember_addresses()
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.call_soon(transport.start, waiter)
        return transport

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        waiter: asyncio.Future[None] | None = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        **_: Any,
    ) -> asyncio.BaseTransport:
        self._check_no_transport(rawsock.fileno())
        ssl_protocol = sslproto.SSLProtocol(
            self,
            protocol,
            sslcontext,
            waiter,  # type: ignore[arg-type]
            server_side,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,  # type: ignore[arg-type]
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        under = self._make_socket_transport(rawsock, ssl_protocol, extra=extra, server=server)
        # A peer that closes behind the handshake may be gone before who waited for it comes to ask.
        for name in ("socket", "sockname", "peername"):
            ssl_protocol._extra.setdefault(name, under.get_extra_info(name))
        transport: asyncio.BaseTransport = ssl_protocol._app_transport
        return transport

    def _start_serving(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        sslcontext: ssl.SSLContext | None = None,
        server: Any = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> None:
        def plain(connection: socket.socket, address: Any) -> None:
            if connection.family in (socket.AF_INET, socket.AF_INET6):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            extra = {"peername": address}
            transport = SocketTransport(self, connection, protocol_factory(), server=server, extra=extra)
            transport.remember_addresses()
            transport.start(read_now=True)

        def secure(connection: socket.socket, address: Any) -> None:
            secured = {**options, "extra": {"peername": address}}
            task = self.create_task(self._accept_secure(connection, protocol_factory(), secured))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

        options: dict[str, Any] = {
            "sslcontext": sslcontext,
            "server": server,
            "ssl_handshake_timeout": ssl_handshake_timeout,
            "ssl_shutdown_timeout": ssl_shutdown_timeout,
        }
        listening = _Listening(self, sock, plain if sslcontext is None else secure)
        self._listening[sock.fileno()] = listening
        listening.start()

    async def _accept_secure(
        self, connection: socket.socket, protocol: asyncio.BaseProtocol, options: dict[str, Any]
    ) -> None:
        waiter = self.create_future()
        transport = self._make_ssl_transport(connection, protocol, waiter=waiter, server_side=True, **options)
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            transport.close()
            if self.get_debug():
                self.call_exception_handler(
                    {
                        "message": "Error on transport creation for incoming connection",
                        "exception": error,
                        "protocol": protocol,
                        "transport": transport,
                    }
                )

    def _stop_serving(self, sock: socket.socket) -> None:
        fd = sock.fileno()
        if fd >= 0:
            self._listening.pop(fd, None)
            self._poller.remove(fd)
        sock.close()

    async def _sock_sendfile_native(self, sock: socket.socket, file: Any, offset: int, count: int | None) -> int:
        return await self._calls.sendfile(sock, file, offset, count)

    async def _sendfile_native(self, transp: SocketTransport, file: Any, offset: int, count: int | None) -> int:
        resume = transp.is_reading()
        transp.pause_reading()
        try:
            await transp._make_empty_waiter()
            return await self._calls.sendfile(transp._lend(), file, offset, count)
        finally:
            transp._reset_empty_waiter()
            transp._take_back()
            if resume:
                transp.resume_reading()
