"""The `sock_*` calls of a loop: one call of a non-blocking socket, and again when it is ready."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lb.eventloop.watching import WatchingLoop

_WOULD_BLOCK = (BlockingIOError, InterruptedError)


class SocketCalls:
    """Runs the calls on behalf of a loop."""

    def __init__(self, loop: WatchingLoop) -> None:
        self._loop = loop

    async def _when_readable(self, sock: socket.socket, call: Callable[[], Any]) -> Any:
        return await self._retry(sock, call, self._loop._watch_reading, self._loop._unwatch_reading)

    async def _when_writable(self, sock: socket.socket, call: Callable[[], Any]) -> Any:
        return await self._retry(sock, call, self._loop._watch_writing, self._loop._unwatch_writing)

    async def _retry(
        self,
        sock: socket.socket,
        call: Callable[[], Any],
        watch: Callable[..., Any],
        unwatch: Callable[[int, Any], Any],
    ) -> Any:
        try:
            return call()
        except _WOULD_BLOCK:
            return await self._wait(sock, call, watch, unwatch)

    async def _wait(
        self,
        sock: socket.socket,
        call: Callable[[], Any],
        watch: Callable[..., Any],
        unwatch: Callable[[int, Any], Any],
    ) -> Any:
        """Call it whenever the socket is ready, until it does not block."""
        fd = sock.fileno()
        self._loop._check_no_transport(fd)
        done = self._loop.create_future()

        def attempt() -> None:
            if done.done():
                return
            try:
                result = call()
            except _WOULD_BLOCK:
                return
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(result)

        handle = watch(fd, attempt)
        try:
            return await done
        finally:
            unwatch(fd, handle)

    def check(self, sock: socket.socket) -> None:
        """Raise ValueError for a blocking socket in debug mode, TypeError for one of ssl's."""
        import ssl

        if isinstance(sock, ssl.SSLSocket):
            raise TypeError("Socket cannot be of type SSLSocket")
        if self._loop.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")

    async def recv(self, sock: socket.socket, size: int) -> bytes:
        """`sock.recv(size)`."""
        self.check(sock)
        data: bytes = await self._when_readable(sock, lambda: sock.recv(size))
        return data

    async def recv_into(self, sock: socket.socket, buffer: Any) -> int:
        """`sock.recv_into(buffer)`."""
        self.check(sock)
        count: int = await self._when_readable(sock, lambda: sock.recv_into(buffer))
        return count

    async def recvfrom(self, sock: socket.socket, size: int) -> tuple[bytes, Any]:
        """`sock.recvfrom(size)`."""
        self.check(sock)
        received: tuple[bytes, Any] = await self._when_readable(sock, lambda: sock.recvfrom(size))
        return received

    async def recvfrom_into(self, sock: socket.socket, buffer: Any, size: int) -> tuple[int, Any]:
        """`sock.recvfrom_into(buffer, size)`."""
        self.check(sock)
        received: tuple[int, Any] = await self._when_readable(
            sock, lambda: sock.recvfrom_into(buffer, size or len(buffer))
        )
        return received

    async def sendall(self, sock: socket.socket, data: Any) -> None:
        """`sock.send` until all of `data` is gone."""
        self.check(sock)
        rest = memoryview(data).cast("B")
        while rest:
            sent: int = await self._when_writable(sock, lambda rest=rest: sock.send(rest))  # type: ignore[misc]
            rest = rest[sent:]

    async def sendto(self, sock: socket.socket, data: Any, address: Any) -> int:
        """`sock.sendto(data, address)`."""
        self.check(sock)
        sent: int = await self._when_writable(sock, lambda: sock.sendto(data, address))
        return sent

    async def accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        """`sock.accept()`; the new socket does not block."""
        self.check(sock)
        connection, address = await self._when_readable(sock, sock.accept)
        connection.setblocking(False)
        return connection, address

    async def connect(self, sock: socket.socket, address: Any) -> None:
        """`sock.connect(address)`; the address is resolved already."""
        try:
            sock.connect(address)
            return
        except _WOULD_BLOCK:
            pass

        def result() -> None:
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, f"Connect call failed {address}")

        await self._wait(sock, result, self._loop._watch_writing, self._loop._unwatch_writing)

    async def sendfile(self, sock: socket.socket, file: Any, offset: int, count: int | None) -> int:
        """os.sendfile from a regular file; raises SendfileNotAvailableError where that can't be."""
        try:
            source = file.fileno()
            size = os.fstat(source).st_size
        except (AttributeError, OSError, ValueError) as error:
            raise asyncio.SendfileNotAvailableError("not a regular file") from error
        left = size - offset if count is None else count
        total = 0
        try:
            while left > 0:
                block = min(left, 1 << 30)
                sent = await self._when_writable(
                    sock,
                    lambda block=block, at=offset + total: os.sendfile(sock.fileno(), source, at, block),  # type: ignore[misc]
                )
                if not sent:
                    break
                total += sent
                left -= sent
        except OSError as error:
            if total == 0 and not isinstance(error, ConnectionError):
                raise asyncio.SendfileNotAvailableError("os.sendfile call failed") from error
            raise
        finally:
            if total > 0:
                os.lseek(source, offset + total, os.SEEK_SET)
        return total
