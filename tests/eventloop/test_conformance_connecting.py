"""Connecting on every loop: over TCP and Unix sockets, and each way in which it fails."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.eventloop.conformance import Echo, OnLoop, Peer, Recorder, socket_pair, turns
from tests.integration.ports import BlackHole, bind


async def ask(client: Recorder) -> None:
    client.transport.write(b"hello")
    await client.until(lambda: client.received == b"hello")
    await client.end()


def test_a_port_that_refuses(on_loop: OnLoop) -> None:
    async def main() -> None:
        with bind(0) as deaf, pytest.raises(ConnectionRefusedError) as caught:
            await asyncio.get_running_loop().create_connection(Recorder, *deaf.getsockname())
        assert caught.value.errno == errno.ECONNREFUSED

    on_loop(main)


def test_the_next_address_of_a_name_is_tried(on_loop: OnLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]

        def two_addresses(*args: Any, **kwargs: Any) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.3", "127.0.0.1")]

        with monkeypatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", two_addresses)
            # uvloop asks the C library itself, which knows no such name.
            host = "localhost" if on_loop.name == "uvloop" else "two.invalid"
            _, client = await loop.create_connection(Recorder, host, port, family=socket.AF_INET)
        assert client.transport.get_extra_info("peername") == ("127.0.0.1", port)
        await ask(client)
        server.close()
        await server.wait_closed()

    on_loop(main)


def test_a_service_that_is_not_known(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(socket.gaierror):
            await loop.create_connection(Recorder, "127.0.0.1", "no-such-service")  # type: ignore[call-overload]

    on_loop(main)


def test_from_an_address_of_ones_own(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        accepted = Echo()
        server = await loop.create_server(lambda: accepted, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        _, client = await loop.create_connection(Recorder, *address, local_addr=("127.0.0.9", 0))
        assert client.transport.get_extra_info("sockname")[0] == "127.0.0.9"
        await accepted.until("made")
        assert accepted.transport.get_extra_info("peername")[0] == "127.0.0.9"
        await ask(client)
        await accepted.until("lost")
        with pytest.raises(OSError, match=r"bind|assign"):
            await loop.create_connection(Recorder, *address, local_addr=("192.0.2.1", 0))
        server.close()
        await server.wait_closed()

    on_loop(main)


def test_with_a_socket_that_is_connected(on_loop: OnLoop) -> None:
    async def main() -> None:
        ours, theirs = socket_pair()
        peer = Peer(theirs)
        transport, recorder = await asyncio.get_running_loop().create_connection(Recorder, sock=ours)
        assert recorder.transport is transport
        assert recorder.events == ["made"]
        await peer.send(b"hello")
        await recorder.until(lambda: recorder.received == b"hello")
        await recorder.end()
        peer.close()

    on_loop(main)


def test_what_makes_no_sense_together(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        ours, theirs = socket_pair()
        for arguments in (
            {},
            {"host": "127.0.0.1", "port": 1, "sock": ours},
            {"host": "127.0.0.1", "port": 1, "server_hostname": "name"},
            {"sock": ours, "server_hostname": "name"},
        ):
            with pytest.raises(ValueError):
                await loop.create_connection(Recorder, **arguments)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, pytest.raises(ValueError):
            await loop.create_connection(Recorder, sock=datagrams)
        ours.close()
        theirs.close()

    on_loop(main)


@pytest.mark.skipif(not BlackHole.is_possible, reason="only Linux tells how full the queue of a listening socket is")
def test_a_connect_that_is_given_up_leaves_nothing(on_loop: OnLoop) -> None:
    hole = BlackHole()

    async def main() -> None:
        connecting = asyncio.create_task(asyncio.get_running_loop().create_connection(Recorder, "127.0.0.1", hole.port))
        await turns()
        assert not connecting.done()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting

    try:
        on_loop(main)
    finally:
        hole.stop()


def test_many_connects_at_once(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=200)
        address = server.sockets[0].getsockname()

        async def one() -> None:
            _, client = await loop.create_connection(Recorder, *address)
            await ask(client)

        await asyncio.gather(*(one() for _ in range(100)))
        server.close()
        await server.wait_closed()

    on_loop(main)


# Unix sockets


def test_a_unix_server(on_loop: OnLoop, tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        path = tmp_path / "socket"
        for _ in range(2):
            # The second time over the file that the first may have left.
            accepted = Echo()
            server = await loop.create_unix_server(lambda accepted=accepted: accepted, path)  # type: ignore[misc]
            assert server.is_serving()
            transport, client = await loop.create_unix_connection(Recorder, path)
            assert client.events == ["made"]
            assert transport.get_extra_info("peername") == str(path)
            await ask(client)
            await accepted.until("lost")
            assert accepted.events == ["made", "data", "eof", "lost"]
            server.close()
            await server.wait_closed()
            with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
                await loop.create_unix_connection(Recorder, path)

    on_loop(main)


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no files are there on Linux only")
@pytest.mark.parametrize("on_loop", ["epoll", "asyncio"], indirect=True)
def test_a_unix_name_that_is_no_file(on_loop: OnLoop, tmp_path: Path) -> None:
    """uvloop serves such names but does not connect to them."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        name = f"\0{tmp_path}"
        server = await loop.create_unix_server(Echo, name)
        _, client = await loop.create_unix_connection(Recorder, name)
        await ask(client)
        server.close()
        await server.wait_closed()

    on_loop(main)


def test_unix_sockets_of_somebody_else(on_loop: OnLoop, tmp_path: Path) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(tmp_path / "socket"))
        server = await loop.create_unix_server(Echo, sock=listening)
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(tmp_path / "socket"))
        _, client = await loop.create_unix_connection(Recorder, sock=sock)
        await ask(client)
        server.close()
        await server.wait_closed()
        with socket.socket() as tcp:
            for method in (loop.create_unix_server, loop.create_unix_connection):
                with pytest.raises(ValueError):
                    await method(Recorder, sock=tcp)
                with pytest.raises(ValueError):
                    await method(Recorder, tmp_path / "socket", sock=tcp)
                with pytest.raises(ValueError):
                    await method(Recorder)
        await turns()
        listening.close()

    on_loop(main)


def test_a_unix_path_where_nobody_is(on_loop: OnLoop, tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(FileNotFoundError):
            await loop.create_unix_connection(Recorder, tmp_path / "nothing")
        (tmp_path / "file").write_text("not a socket")
        with pytest.raises(ConnectionRefusedError):
            await loop.create_unix_connection(Recorder, tmp_path / "file")
        with pytest.raises(OSError) as caught:
            await loop.create_unix_server(Echo, tmp_path / "file")
        assert caught.value.errno == errno.EADDRINUSE

    on_loop(main)
