"""Descriptors that callbacks wait for: `add_reader`, `add_writer`, and the `sock_*` calls over them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from lb.eventloop.poller import ERROR, HANG_UP, READ, WRITE, Sink
from lb.eventloop.sock_calls import SocketCalls
from lb.eventloop.splice import Pipe
from lb.eventloop.transport_base import TransportBase
from lb.eventloop.turn import TurningLoop


class _Watched(Sink):
    """A descriptor with a reader and a writer callback: `add_reader`, `add_writer` and the sock_* calls."""

    __slots__ = ("_fd", "_loop", "reader", "writer")

    def __init__(self, loop: WatchingLoop, fd: int) -> None:
        self._loop = loop
        self._fd = fd
        self.reader: asyncio.Handle | None = None
        self.writer: asyncio.Handle | None = None

    def ready(self, events: int) -> None:
        """Schedule the callbacks: they are foreign, and run with the others of this turn."""
        ready = self._loop._ready
        if events & ~WRITE and self.reader is not None:
            ready.append(self.reader)
        if events & (WRITE | ERROR | HANG_UP) and self.writer is not None:
            ready.append(self.writer)

    def update(self) -> None:
        """Ask for what the callbacks need, or for nothing."""
        poller = self._loop._poller
        wanted = (READ if self.reader is not None else 0) | (WRITE if self.writer is not None else 0)
        if wanted:
            poller.add(self._fd, self, wanted)
        else:
            poller.remove(self._fd)
            self._loop._watched.pop(self._fd, None)

    def update_or_forget(self) -> None:
        """The same; what can't be watched leaves nothing behind. Raises OSError (EPERM: a regular file)."""
        try:
            self.update()
        except OSError:
            self._loop._watched.pop(self._fd, None)
            raise


class WatchingLoop(TurningLoop):
    """Watches descriptors."""

    def __init__(self) -> None:
        super().__init__()
        self._transports: dict[int, TransportBase] = {}
        self._watched: dict[int, _Watched] = {}
        self._calls = SocketCalls(self)
        self._pipe: Pipe | None = None

    def _splice_pipe(self) -> Pipe:
        """Return the pipe of this loop, made when it is first needed. Raises OSError."""
        if self._pipe is None:
            self._pipe = Pipe()
        return self._pipe

    def close(self) -> None:
        """Close the loop; it must not run."""
        super().close()
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.close()

    def _check_no_transport(self, fd: int) -> None:
        transport = self._transports.get(fd)
        if transport is not None and not transport.is_closing():
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {transport!r}")

    def _watch(self, fd: int) -> _Watched:
        self._check_closed()
        watched = self._watched.get(fd)
        if watched is None:
            watched = self._watched[fd] = _Watched(self, fd)
        return watched

    def _unwatch_closed(self, fd: int) -> None:
        """A transport's socket is about to be closed; whoever had borrowed it (sendfile) must see that, not wait."""
        watched = self._watched.pop(fd, None)
        if watched is not None:
            self._poller.remove(fd)
            self._ready.extend(handle for handle in (watched.reader, watched.writer) if handle is not None)

    def _watch_reading(self, fd: int, callback: Callable[..., object], *args: Any) -> asyncio.Handle:
        watched = self._watch(fd)
        handle = asyncio.Handle(callback, args, self, None)
        old, watched.reader = watched.reader, handle
        watched.update_or_forget()
        if old is not None:
            old.cancel()
        return handle

    def _watch_writing(self, fd: int, callback: Callable[..., object], *args: Any) -> asyncio.Handle:
        watched = self._watch(fd)
        handle = asyncio.Handle(callback, args, self, None)
        old, watched.writer = watched.writer, handle
        watched.update_or_forget()
        if old is not None:
            old.cancel()
        return handle

    def _unwatch_reading(self, fd: int, only: asyncio.Handle | None = None) -> bool:
        watched = self._watched.get(fd)
        if self.is_closed() or watched is None or watched.reader is None or (only and watched.reader is not only):
            return False
        watched.reader.cancel()
        watched.reader = None
        watched.update()
        return True

    def _unwatch_writing(self, fd: int, only: asyncio.Handle | None = None) -> bool:
        watched = self._watched.get(fd)
        if self.is_closed() or watched is None or watched.writer is None or (only and watched.writer is not only):
            return False
        watched.writer.cancel()
        watched.writer = None
        watched.update()
        return True

    def add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> None:  # type: ignore[override]
        """Call `callback` whenever `fd` is readable."""
        self._check_no_transport(_fileno(fd))
        self._watch_reading(_fileno(fd), callback, *args)

    def remove_reader(self, fd: Any) -> bool:
        """Stop that; returns whether there was a callback."""
        self._check_no_transport(_fileno(fd))
        return self._unwatch_reading(_fileno(fd))

    def add_writer(self, fd: Any, callback: Callable[..., object], *args: Any) -> None:  # type: ignore[override]
        """Call `callback` whenever `fd` is writable."""
        self._check_no_transport(_fileno(fd))
        self._watch_writing(_fileno(fd), callback, *args)

    def remove_writer(self, fd: Any) -> bool:
        """Stop that; returns whether there was a callback."""
        self._check_no_transport(_fileno(fd))
        return self._unwatch_writing(_fileno(fd))

    async def sock_recv(self, sock: socket.socket, nbytes: int) -> bytes:
        """Receive up to `nbytes`."""
        return await self._calls.recv(sock, nbytes)

    async def sock_recv_into(self, sock: socket.socket, buf: Any) -> int:
        """Receive into `buf`."""
        return await self._calls.recv_into(sock, buf)

    async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> tuple[bytes, Any]:
        """Receive a datagram and its sender."""
        return await self._calls.recvfrom(sock, bufsize)

    async def sock_recvfrom_into(self, sock: socket.socket, buf: Any, nbytes: int = 0) -> tuple[int, Any]:
        """Receive a datagram into `buf`, and its sender."""
        return await self._calls.recvfrom_into(sock, buf, nbytes)

    async def sock_sendall(self, sock: socket.socket, data: Any) -> None:
        """Send all of `data`."""
        await self._calls.sendall(sock, data)

    async def sock_sendto(self, sock: socket.socket, data: Any, address: Any) -> int:
        """Send a datagram."""
        return await self._calls.sendto(sock, data, address)

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        return await self._calls.accept(sock)

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect to `address`, a name included."""
        self._calls.check(sock)
        if sock.family == socket.AF_INET or (hasattr(socket, "AF_INET6") and sock.family == socket.AF_INET6):
            resolved = await self._ensure_resolved(  # type: ignore[attr-defined]
                address, family=sock.family, type=sock.type, proto=sock.proto, loop=self
            )
            address = resolved[0][4]
        await self._calls.connect(sock, address)


def _fileno(fd: Any) -> int:
    if isinstance(fd, int):
        return fd
    try:
        return int(fd.fileno())
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"Invalid file object: {fd!r}") from None
