"""An event loop on a made-up clock and a transport that remembers, to run a connection without sockets."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import types
from collections import deque
from collections.abc import Callable


class FakeHandle:
    def __init__(self, callback: Callable[..., object], arguments: tuple[object, ...]) -> None:
        self._callback = callback
        self._arguments = arguments
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def run(self) -> None:
        if not self.is_cancelled:
            self._callback(*self._arguments)


class FakeLoop:
    """The part of an event loop that the server uses. Nothing happens until `turn` or `advance` is called."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.ready: deque[FakeHandle] = deque()
        self._timers: list[tuple[float, int, FakeHandle]] = []
        self._ids = itertools.count()

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> FakeHandle:
        handle = FakeHandle(callback, arguments)
        self.ready.append(handle)
        return handle

    def call_at(self, when: float, callback: Callable[..., object], *arguments: object) -> FakeHandle:
        handle = FakeHandle(callback, arguments)
        heapq.heappush(self._timers, (when, next(self._ids), handle))
        return handle

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: object) -> FakeHandle:
        return self.call_at(self.now + delay, callback, *arguments)

    def turn(self) -> None:
        """Run what is ready now, and not what becomes ready by it."""
        for _ in range(len(self.ready)):
            self.ready.popleft().run()

    def run(self) -> None:
        """Turn until nothing is ready."""
        while self.ready:
            self.turn()

    def advance(self, seconds: float) -> None:
        """Let time pass: timers run when they are due, and what they make ready."""
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end + 1e-9:
            when, _, handle = heapq.heappop(self._timers)
            self.now = max(self.now, when)
            handle.run()
            self.run()
        self.now = end


class FakeTransport(asyncio.Transport):
    """Remembers what was done to it. With a `limit`, writing is paused when that many bytes were not `taken`."""

    def __init__(self, limit: int | None = None, local_address: str = "127.0.0.9") -> None:
        super().__init__()
        self.local_address = local_address
        self.writes: list[bytes] = []
        self.untaken = 0
        self.is_open = True
        self.is_aborted = False
        self.is_half_closed = False
        self.is_reading_paused = False
        self.options: list[tuple[int, int, bytes]] = []
        self._limit = limit
        self._protocol: asyncio.Protocol | None = None

    @property
    def written(self) -> bytes:
        return b"".join(self.writes)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_extra_info(self, name: str, default: object = None) -> object:
        if name == "sockname":
            return (self.local_address, 8080)
        return types.SimpleNamespace(setsockopt=lambda *option: self.options.append(option))

    def is_closing(self) -> bool:
        return not self.is_open

    def write(self, data: bytes) -> None:
        assert self.is_open
        assert not self.is_half_closed
        self.writes.append(bytes(data))
        self.untaken += len(data)
        if self._limit is not None and self.untaken > self._limit:
            self._protocol.pause_writing()

    def take(self) -> None:
        """Let the client take everything that was written."""
        self.untaken = 0
        self._protocol.resume_writing()

    def write_eof(self) -> None:
        self.is_half_closed = True

    def close(self) -> None:
        self.is_open = False

    def abort(self) -> None:
        self.is_open = False
        self.is_aborted = True

    def pause_reading(self) -> None:
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        self.is_reading_paused = False
