"""What the conformance tests share: loops of each kind, a protocol that writes down what it is told, plain peers."""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from lb.eventloop import new_event_loop

T = TypeVar("T")

LOOPS = ["epoll", "uvloop", "asyncio"]
DEADLINE = 5.0
"""Seconds after which what should have happened has failed."""

_NO_LINGER = struct.pack("ii", 1, 0)


class OnLoop:
    """Runs coroutine functions, each on a new loop of one kind."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.errors: list[dict[str, Any]] = []
        """What the loop's exception handler was told. A test takes out what it expects: what is left is a failure."""

    def __call__(self, main: Callable[[], Awaitable[T]], *, debug: bool = False, seconds: float = DEADLINE) -> T:
        async def bounded() -> T:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: self.errors.append(context))
            try:
                async with asyncio.timeout(seconds):
                    return await main()
            except BaseException:
                for recorder in list(Recorder.connected):
                    recorder.transport.abort()
                for peer in list(Peer.all):
                    peer.close()
                raise

        runner = asyncio.Runner(loop_factory=self.new, debug=debug)
        try:
            result = runner.run(bounded())
        except BaseException:
            # uvloop may never return from closing what a test that failed has left behind.
            if self.name != "uvloop":
                runner.close()
            raise
        runner.close()
        return result

    def new(self) -> asyncio.AbstractEventLoop:
        """Return a new loop of this kind, which is the caller's to close."""
        return new_event_loop(self.name)

    def take_error(self) -> BaseException:
        """Take out the one exception that the exception handler was told of."""
        (context,) = self.errors
        self.errors.clear()
        error: BaseException = context["exception"]
        return error


class Recorder(asyncio.Protocol):
    """Writes down what happens to a connection."""

    connected: ClassVar[weakref.WeakSet[Recorder]] = weakref.WeakSet()

    def __init__(self, *, keep_open: bool = False) -> None:
        """`keep_open` is what `eof_received` returns."""
        self.events: list[str] = []
        """"made", "data" (once for any number of them in a row), "eof", "paused", "resumed", "lost"."""
        self.received = bytearray()
        self.error: Exception | None = None
        """What the connection was lost with."""
        self.transport: Any = None
        self._keep_open = keep_open
        self._changed = asyncio.Event()

    def note(self, event: str) -> None:
        if event != "data" or self.events[-1:] != ["data"]:
            self.events.append(event)
        self._changed.set()

    async def until(self, condition: str | Callable[[], object]) -> None:
        """Wait for an event, or for anything else that holds after one."""
        while not (condition in self.events if isinstance(condition, str) else condition()):
            self._changed.clear()
            await self._changed.wait()

    async def end(self) -> None:
        """Close, and wait for the end."""
        self.transport.close()
        await self.until("lost")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        Recorder.connected.add(self)
        self.note("made")

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.received += data
        self.note("data")

    def eof_received(self) -> bool:
        self.note("eof")
        return self._keep_open

    def pause_writing(self) -> None:
        self.note("paused")

    def resume_writing(self) -> None:
        self.note("resumed")

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        Recorder.connected.discard(self)
        self.note("lost")


class Echo(Recorder):
    """Sends back what it receives."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(data)


class Peer:
    """The plain other end of a connection: sends, reads and closes as it is told."""

    all: ClassVar[weakref.WeakSet[Peer]] = weakref.WeakSet()

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        Peer.all.add(self)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def read(self, count: int) -> bytes:
        """Return exactly `count` bytes."""
        parts = bytearray()
        while len(parts) < count:
            data = await asyncio.get_running_loop().sock_recv(self.sock, min(count - len(parts), 1 << 16))
            assert data, f"the end came after {len(parts)} of {count} bytes"
            parts += data
        return bytes(parts)

    async def read_to_end(self) -> bytes:
        """Return what comes up to the FIN. Raises ConnectionResetError."""
        parts = bytearray()
        while data := await asyncio.get_running_loop().sock_recv(self.sock, 1 << 16):
            parts += data
        return bytes(parts)

    def fin(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


def socket_pair(family: str = "tcp", *, buffers: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets, "tcp" or "unix"; `buffers` is about how many bytes the kernel keeps for each."""
    if family == "unix":
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            if buffers is not None:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
            theirs = socket.socket()
            if buffers is not None:
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
            theirs.connect(server.getsockname())
            ours, _ = server.accept()
    if buffers is not None:
        for sock in (ours, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
    ours.setblocking(False)
    return ours, theirs


async def attach(protocol: asyncio.BaseProtocol, family: str = "tcp", *, buffers: int | None = None) -> Peer:
    """Give `protocol` a connection, and return its plain other end."""
    ours, theirs = socket_pair(family, buffers=buffers)
    await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, ours)  # type: ignore[type-var]
    return Peer(theirs)


async def attach_at(number: int, protocol: asyncio.BaseProtocol, family: str = "tcp") -> Peer:
    """The same at the descriptor `number`, which is free."""
    ours, theirs = socket_pair(family)
    if theirs.fileno() == number:
        ours, theirs = theirs, ours
        ours.setblocking(False)
    if ours.fileno() != number:
        with ours:
            os.dup2(ours.fileno(), number, inheritable=False)
        ours = socket.socket(fileno=number)
        ours.setblocking(False)
    await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, ours)
    return Peer(theirs)


async def turns(count: int = 10) -> None:
    """Let the loop look for events `count` times."""
    for _ in range(count):
        await asyncio.sleep(0)


def descriptors() -> set[str]:
    """Return the open descriptors of this process, as far as the system tells (Linux)."""
    directory = Path("/proc/self/fd")
    return set(os.listdir(directory)) if directory.exists() else set()


def block(size: int) -> bytes:
    """Return `size` bytes whose order can be told."""
    return array.array("I", range(size // 4)).tobytes()
