"""Whose connection it was: accepting tells it, also when the client has reset since."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

from tests.eventloop.certificates import client_context, server_context
from tests.eventloop.conformance import OnLoop, Peer, Recorder
from tests.eventloop.test_conformance_servers import address_of

# uvloop asks the socket.
LOOPS = pytest.mark.parametrize("on_loop", ["epoll", "asyncio"], indirect=True)


class Asking(Recorder):
    """Asks for the address of its peer."""

    peername: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.peername = transport.get_extra_info("peername")


@LOOPS
def test_a_client_that_resets_before_it_is_accepted(on_loop: OnLoop) -> None:
    async def main() -> None:
        asking = Asking()
        server = await asyncio.get_running_loop().create_server(lambda: asking, "127.0.0.1", 0)
        client = socket.create_connection(address_of(server))
        name = client.getsockname()
        Peer(client).reset()
        await asking.until("lost")
        assert asking.peername == name
        assert asking.transport.get_extra_info("peername") == name
        server.close()
        await server.wait_closed()

    on_loop(main)


@LOOPS
@pytest.mark.parametrize("tls", [False, True])
def test_a_socket_that_does_not_know_any_more(on_loop: OnLoop, monkeypatch: pytest.MonkeyPatch, tls: bool) -> None:
    def forgotten(_: socket.socket) -> Any:
        raise OSError(errno.ENOTCONN, "the peer is gone")

    monkeypatch.setattr(socket.socket, "getpeername", forgotten)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        asking = Asking()
        server = await loop.create_server(lambda: asking, "127.0.0.1", 0, ssl=server_context() if tls else None)
        _, client = await loop.create_connection(Recorder, *address_of(server), ssl=client_context() if tls else None)
        await asking.until("made")
        assert asking.peername == client.transport.get_extra_info("sockname")
        await client.end()
        await asking.until("lost")
        server.close()
        await server.wait_closed()

    on_loop(main)
