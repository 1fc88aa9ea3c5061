"""Unix stream sockets."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from lb.eventloop.serving import ServingLoop

log = logging.getLogger("asyncio")


class UnixLoop(ServingLoop):
    """Connects to and listens on Unix sockets."""

    def __init__(self) -> None:
        super().__init__()
        self._files: dict[socket.socket, tuple[Any, int]] = {}

    async def create_unix_connection(
        self,
        protocol_factory: Callable[[], Any],
        path: Any = None,
        *,
        ssl: Any = None,
        sock: socket.socket | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Any:
        """Connect to a Unix socket; returns (transport, protocol)."""
        if ssl and server_hostname is None:
            raise ValueError("you have to pass server_hostname when using ssl")
        if not ssl:
            _refuse(server_hostname, "server_hostname is only meaningful with ssl")
            _refuse(ssl_handshake_timeout, "ssl_handshake_timeout is only meaningful with ssl")
            _refuse(ssl_shutdown_timeout, "ssl_shutdown_timeout is only meaningful with ssl")
        if path is not None:
            _refuse(sock, "path and sock can not be specified at the same time")
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                await self.sock_connect(sock, os.fspath(path))
            except BaseException:
                sock.close()
                raise
        else:
            sock = _checked_unix(sock)
            sock.setblocking(False)
        return await self._create_connection_transport(  # type: ignore[attr-defined]
            sock,
            protocol_factory,
            ssl,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    async def create_unix_server(
        self,
        protocol_factory: Callable[[], Any],
        path: Any = None,
        *,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        cleanup_socket: bool = sys.version_info >= (3, 13),
    ) -> asyncio.Server:
        """Listen on a Unix socket. A socket file that nobody owns any more is replaced.

        `cleanup_socket`: remove the file when the server is closed, if it is still this one (the default from
        Python 3.13 on).
        """
        if isinstance(ssl, bool):
            raise TypeError("ssl argument must be an SSLContext or None")
        if not ssl:
            _refuse(ssl_handshake_timeout, "ssl_handshake_timeout is only meaningful with ssl")
            _refuse(ssl_shutdown_timeout, "ssl_shutdown_timeout is only meaningful with ssl")
        if path is not None:
            _refuse(sock, "path and sock can not be specified at the same time")
            sock = _bind_unix(os.fspath(path))
        else:
            sock = _checked_unix(sock)
        if cleanup_socket:
            self._remember_file(sock)
        sock.setblocking(False)
        server = asyncio.base_events.Server(
            self,
            [sock],
            protocol_factory,
            ssl,
            backlog,
            ssl_handshake_timeout,
            ssl_shutdown_timeout,
        )
        if start_serving:
            server._start_serving()  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        return server

    def _remember_file(self, sock: socket.socket) -> None:
        path = sock.getsockname()
        if path and path[:1] not in ("\0", b"\0"):
            with suppress(OSError):
                self._files[sock] = (path, os.stat(path).st_ino)

    def _stop_serving(self, sock: socket.socket) -> None:
        file = self._files.pop(sock, None)
        super()._stop_serving(sock)
        if file is not None:
            path, inode = file
            with suppress(OSError):
                if os.stat(path).st_ino == inode:
                    os.unlink(path)


def _refuse(value: object, why: str) -> None:
    if value is not None:
        raise ValueError(why)


def _checked_unix(sock: socket.socket | None) -> socket.socket:
    if sock is None:
        raise ValueError("path was not specified, and no sock specified")
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")
    return sock


def _bind_unix(path: str | bytes) -> socket.socket:
    """Return a socket bound to `path`, replacing a socket file that is there."""
    if path[:1] not in ("\0", b"\0"):
        try:
            if stat.S_ISSOCK(os.stat(path).st_mode):
                os.remove(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.error("Unable to check or remove stale UNIX socket %r: %r", path, error)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise OSError(errno.EADDRINUSE, f"Address {path!r} is already in use") from None
        raise
    except BaseException:
        sock.close()
        raise
    return sock
