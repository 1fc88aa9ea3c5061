"""What is written in connection_made, on every loop: all of it arrives, also what the kernel can't take at once."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.eventloop.conformance import OnLoop, Peer, Recorder, attach, block, socket_pair

BUFFERS = 64 << 10
MUCH = 1 << 20
"""More bytes than the kernel takes into such buffers."""

LAST = pytest.mark.parametrize("last", ["", "close", "write_eof", "pause_reading"])


class Greeting(Recorder):
    """Writes as soon as it is connected, and does one thing behind that."""

    def __init__(self, last: str) -> None:
        super().__init__()
        self._last = last

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(block(MUCH))
        assert self.transport.get_write_buffer_size() > 0
        if self._last:
            getattr(self.transport, self._last)()


async def check(greeting: Greeting, peer: Peer, last: str) -> None:
    """All of it arrives, behind it what was asked for, and what does not end goes on."""
    assert await peer.read(MUCH) == block(MUCH)
    if last in ("close", "write_eof"):
        assert await peer.read_to_end() == b""
    if last != "close":
        assert "lost" not in greeting.events
        if last == "pause_reading":
            greeting.transport.resume_reading()
        await peer.send(b"answer")
        await greeting.until(lambda: greeting.received == b"answer")
    peer.close()
    await greeting.until("lost")
    assert greeting.error is None


@LAST
def test_of_a_server(on_loop: OnLoop, last: str) -> None:
    async def main() -> None:
        greeting = Greeting(last)
        listening = socket.create_server(("127.0.0.1", 0))
        # What is accepted has them too.
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            listening.setsockopt(socket.SOL_SOCKET, option, BUFFERS)
        server = await asyncio.get_running_loop().create_server(lambda: greeting, sock=listening)
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFERS)
        client.connect(server.sockets[0].getsockname())
        await check(greeting, Peer(client), last)
        server.close()
        await server.wait_closed()

    on_loop(main)


@LAST
def test_of_a_client(on_loop: OnLoop, last: str) -> None:
    async def main() -> None:
        greeting = Greeting(last)
        ours, theirs = socket_pair(buffers=BUFFERS)
        await asyncio.get_running_loop().create_connection(lambda: greeting, sock=ours)
        await check(greeting, Peer(theirs), last)

    on_loop(main)


@LAST
@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_of_an_accepted_socket(on_loop: OnLoop, family: str, last: str) -> None:
    async def main() -> None:
        greeting = Greeting(last)
        peer = await attach(greeting, family, buffers=BUFFERS)
        await check(greeting, peer, last)

    on_loop(main)
