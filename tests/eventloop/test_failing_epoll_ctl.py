"""A connection that epoll does not take costs itself alone."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

from lb.listener import Listener
from tests.eventloop.conformance import Echo, OnLoop, Peer, turns
from tests.eventloop.test_conformance_servers import ask, until


@pytest.mark.parametrize("kind", ["server", "listener"])
def test_a_connection_that_the_kernel_can_not_watch_costs_itself_alone(on_epoll: OnLoop, kind: str) -> None:
    made: list[Echo] = []

    def accept() -> Echo:
        made.append(Echo())
        return made[-1]

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        address = listening.getsockname()
        if kind == "server":
            server: Any = await loop.create_server(accept, sock=listening)
        else:
            server = Listener([listening], accept, loop)
            server.start()
        add = loop._poller.add

        def fail(*arguments: object) -> None:
            loop._poller.add = add
            raise OSError(errno.ENOSPC, "no more watches")

        await turns()
        peer = Peer(socket.create_connection(address))
        loop._poller.add = fail
        await until(lambda: made)
        assert await peer.read_to_end() == b""
        assert made[0].events in ([], ["made", "lost"])
        peer.close()
        for _ in range(3):
            await ask(address)
        if kind == "server":
            server.close()
            await server.wait_closed()
        else:
            await server.close()

    on_epoll(main)
    on_epoll.errors.clear()
