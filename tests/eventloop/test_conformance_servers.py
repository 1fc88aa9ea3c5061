"""Servers on every loop: what they accept, what they refuse, and how they end."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

from tests.eventloop.conformance import Echo, OnLoop, Peer, Recorder, socket_pair, turns


def address_of(server: Any) -> tuple[str, int]:
    address: tuple[str, int] = server.sockets[0].getsockname()
    return address


async def ask(address: tuple[str, int], question: bytes = b"hello") -> None:
    """Connect, and have `question` sent back."""
    _, client = await asyncio.get_running_loop().create_connection(Recorder, *address)
    client.transport.write(question)
    await client.until(lambda: client.received == question)
    await client.end()


async def is_refused(address: tuple[str, int]) -> bool:
    try:
        _, client = await asyncio.get_running_loop().create_connection(Recorder, *address)
    except ConnectionRefusedError:
        return True
    await client.end()
    return False


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0)


def test_a_server_serves_many_at_once(on_loop: OnLoop) -> None:
    async def main() -> None:
        accepted: list[Echo] = []

        def accept() -> Echo:
            accepted.append(Echo())
            return accepted[-1]

        server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
        assert server.is_serving()
        assert server.get_loop() is asyncio.get_running_loop()
        await asyncio.gather(*(ask(address_of(server), b"%d" % number) for number in range(100)))
        await until(lambda: len(accepted) == 100 and all("lost" in each.events for each in accepted))
        assert sorted(int(each.received) for each in accepted) == list(range(100))
        for each in accepted:
            assert each.events == ["made", "data", "eof", "lost"]
            assert each.transport.get_extra_info("sockname") == address_of(server)
        server.close()
        await server.wait_closed()

    on_loop(main)


def test_a_closed_server_refuses_and_keeps_what_it_has(on_loop: OnLoop) -> None:
    async def main() -> None:
        accepted = Echo()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: accepted, "127.0.0.1", 0)
        address = address_of(server)
        _, client = await loop.create_connection(Recorder, *address)
        await accepted.until("made")
        server.close()
        server.close()
        assert not server.is_serving()
        assert not server.sockets
        assert await is_refused(address)
        client.transport.write(b"still there?")
        await client.until(lambda: client.received == b"still there?")
        await client.end()
        await accepted.until("lost")
        await server.wait_closed()

    on_loop(main)


def test_a_server_as_a_context_closes_at_its_end(on_loop: OnLoop) -> None:
    async def main() -> None:
        async with await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0) as server:
            address = address_of(server)
            await ask(address)
        assert not server.is_serving()
        assert await is_refused(address)

    on_loop(main)


def test_a_server_that_is_told_when_to_start(on_loop: OnLoop) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, start_serving=False)
        assert not server.is_serving()
        assert await is_refused(address_of(server))
        await server.start_serving()
        await server.start_serving()
        assert server.is_serving()
        await ask(address_of(server))
        server.close()
        await server.wait_closed()

    on_loop(main)


def test_serving_for_ever_ends_with_its_task(on_loop: OnLoop) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, start_serving=False)
        address = address_of(server)
        serving = asyncio.create_task(server.serve_forever())
        await until(server.is_serving)
        await ask(address)
        with pytest.raises(RuntimeError, match="already being awaited"):
            await server.serve_forever()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert not server.is_serving()
        assert await is_refused(address)

    on_loop(main)


def test_a_server_on_several_addresses(on_loop: OnLoop) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Echo, ["127.0.0.1", "127.0.0.2"], 0)
        addresses = [sock.getsockname() for sock in server.sockets]
        assert sorted(address[0] for address in addresses) == ["127.0.0.1", "127.0.0.2"]
        for address in addresses:
            await ask(address)
        server.close()
        await server.wait_closed()

    on_loop(main)


def test_a_server_on_a_socket_of_somebody_else(on_loop: OnLoop) -> None:
    async def main() -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        address = sock.getsockname()
        server = await asyncio.get_running_loop().create_server(Echo, sock=sock)
        await ask(address)
        server.close()
        await server.wait_closed()
        await turns()
        assert await is_refused(address)
        # With uvloop the socket object stays the caller's.
        sock.close()

    on_loop(main)


def test_who_came_before_the_server_started_is_served(on_loop: OnLoop) -> None:
    async def main() -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        early = [Peer(socket.create_connection(sock.getsockname())) for _ in range(70)]
        for number, peer in enumerate(early):
            await peer.send(b"%02d" % number)
        server = await asyncio.get_running_loop().create_server(Echo, sock=sock)
        for number, peer in enumerate(early):
            assert await peer.read(2) == b"%02d" % number
            peer.close()
        server.close()
        await server.wait_closed()
        await turns()
        sock.close()

    on_loop(main)


def test_two_servers_share_a_port(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        first = await loop.create_server(Echo, "127.0.0.1", 0, reuse_port=True)
        second = await loop.create_server(Echo, *address_of(first), reuse_port=True)
        for _ in range(10):
            await ask(address_of(first))
        for server in (first, second):
            server.close()
            await server.wait_closed()

    on_loop(main)


def test_an_address_that_is_taken(on_loop: OnLoop) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            with pytest.raises(OSError) as caught:
                await asyncio.get_running_loop().create_server(Echo, *taken.getsockname())
            assert caught.value.errno == errno.EADDRINUSE

    on_loop(main)


def test_an_address_that_is_not_of_this_machine(on_loop: OnLoop) -> None:
    async def main() -> None:
        with pytest.raises(OSError) as caught:
            await asyncio.get_running_loop().create_server(Echo, "192.0.2.1", 0)
        assert caught.value.errno == errno.EADDRNOTAVAIL

    on_loop(main)


def test_what_makes_no_sense_together(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        with pytest.raises(ValueError):
            await loop.create_server(Echo)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, pytest.raises(ValueError):
            await loop.create_server(Echo, sock=datagrams)
        with socket.socket() as sock, pytest.raises(ValueError):
            await loop.create_server(Echo, "127.0.0.1", 0, sock=sock)
        with pytest.raises(TypeError):
            await loop.create_server(Echo, "127.0.0.1", 0, ssl=True)

    on_loop(main)


def test_a_factory_that_fails_costs_one_connection(on_epoll: OnLoop) -> None:
    """asyncio is silent about it outside debug mode; uvloop leaves the connection open, and then can't be closed."""

    async def main() -> None:
        failed = False

        def accept() -> Echo:
            nonlocal failed
            if not failed:
                failed = True
                raise ArithmeticError("out of fingers")
            return Echo()

        server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
        unlucky = Peer(socket.create_connection(address_of(server)))
        assert await unlucky.read_to_end() == b""
        unlucky.close()
        await ask(address_of(server))
        server.close()
        await server.wait_closed()

    on_epoll(main)
    assert isinstance(on_epoll.take_error(), ArithmeticError)


def test_a_socket_that_was_accepted_elsewhere(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair()
        peer = Peer(theirs)
        transport, echo = await loop.connect_accepted_socket(Echo, ours)
        assert echo.events == ["made"]
        assert echo.transport is transport
        await peer.send(b"hello")
        assert await peer.read(5) == b"hello"
        await echo.end()
        assert await peer.read_to_end() == b""
        peer.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, pytest.raises(ValueError):
            await loop.connect_accepted_socket(Echo, datagrams)

    on_loop(main)


def test_a_socket_that_was_reset_before_it_had_a_protocol(on_loop: OnLoop) -> None:
    async def main() -> None:
        ours, theirs = socket_pair()
        Peer(theirs).reset()
        recorder = Recorder()
        await asyncio.get_running_loop().connect_accepted_socket(lambda: recorder, ours)
        await recorder.until("lost")
        assert recorder.events == ["made", "lost"]
        assert type(recorder.error) is ConnectionResetError

    on_loop(main)
