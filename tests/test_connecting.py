"""A connect and its time, on loops that are held up."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from lb.connecting import Connecting
from lb.errors import ConnectFailure
from lb.eventloop import new_event_loop


@pytest.fixture(params=["epoll", "uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    loop = new_event_loop(request.param)
    yield loop
    loop.close()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


class Protocol(asyncio.Protocol):
    """Connects, and notes what comes of it."""

    def __init__(self) -> None:
        self.transport: asyncio.BaseTransport | None = None
        self.in_time: bool | None = None
        self.is_lost = False
        self.failures: list[ConnectFailure] = []
        self.connecting: Connecting | None = None

    def start(self, loop: asyncio.AbstractEventLoop, port: int, timeout: float) -> None:
        self.connecting = Connecting(self, ("", "127.0.0.1", port), loop, timeout, self.failures.append)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert self.connecting is not None
        self.transport = transport
        self.in_time = self.connecting.made()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True


async def settle(turns: int = 20) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


def test_a_loop_that_is_held_up_does_not_fail_a_connect_that_is_done(
    loop: asyncio.AbstractEventLoop, listening: socket.socket
) -> None:
    protocol = Protocol()

    async def run() -> None:
        protocol.start(loop, listening.getsockname()[1], 0.05)
        await asyncio.sleep(0)
        # The kernel has connected by now, and the time is over before the loop can look.
        time.sleep(0.1)
        await settle()
        assert (protocol.in_time, protocol.failures, protocol.is_lost) == (True, [], False)
        assert protocol.transport is not None
        protocol.transport.close()
        await settle()

    loop.run_until_complete(run())


def test_one_that_was_made_is_not_taken_back(loop: asyncio.AbstractEventLoop, listening: socket.socket) -> None:
    class Slow(Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            time.sleep(0.1)

    protocol = Slow()

    async def run() -> None:
        protocol.start(loop, listening.getsockname()[1], 0.05)
        while protocol.transport is None:
            await asyncio.sleep(0)
        await settle()
        assert (protocol.in_time, protocol.failures, protocol.is_lost) == (True, [], False)
        protocol.transport.close()
        await settle()

    loop.run_until_complete(run())


def test_what_is_refused_is_told(loop: asyncio.AbstractEventLoop, listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    listening.close()
    protocol = Protocol()

    async def run() -> None:
        protocol.start(loop, port, 5.0)
        while not protocol.failures:
            await asyncio.sleep(0)

    loop.run_until_complete(run())
    assert protocol.failures == [ConnectFailure.REFUSED]


def test_one_that_nobody_wants_any_more_is_told_to_nobody(
    loop: asyncio.AbstractEventLoop, listening: socket.socket
) -> None:
    protocol = Protocol()

    async def run() -> None:
        protocol.start(loop, listening.getsockname()[1], 0.001)
        assert protocol.connecting is not None
        protocol.connecting.cancel()
        time.sleep(0.002)
        await settle()

    loop.run_until_complete(run())
    assert (protocol.in_time, protocol.failures) == (None, [])
