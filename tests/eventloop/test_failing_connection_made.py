"""A connection_made that fails costs one connection, not the server."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.eventloop.conformance import Echo, OnLoop, Peer, turns
from tests.eventloop.test_conformance_servers import address_of, ask, until


@pytest.mark.parametrize("on_loop", ["epoll", "asyncio"], indirect=True)
def test_a_failing_connection_made_costs_one_connection(on_loop: OnLoop) -> None:
    """uvloop leaves the connection open, and then can't be closed."""

    class Failing(Echo):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            if len(made) == 1:
                raise ArithmeticError("out of fingers")

    made: list[Failing] = []

    async def main() -> None:
        def accept() -> Failing:
            made.append(Failing())
            return made[-1]

        server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
        unlucky = Peer(socket.create_connection(address_of(server)))
        await until(lambda: made)
        await turns()
        for _ in range(3):
            # The descriptor of the first may serve anew.
            await ask(address_of(server))
        made[0].transport.abort()
        await turns()
        unlucky.close()
        server.close()
        await server.wait_closed()

    on_loop(main)
    assert isinstance(on_loop.take_error(), ArithmeticError)
