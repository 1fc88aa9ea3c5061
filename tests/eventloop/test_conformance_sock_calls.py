"""The sock_* calls and sendfile on every loop."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.eventloop.conformance import OnLoop, Peer, Recorder, attach, block, socket_pair, turns
from tests.integration.ports import bind

FAMILIES = pytest.mark.parametrize("family", ["tcp", "unix"])


@FAMILIES
def test_both_ways_with_more_than_the_kernel_takes(on_loop: OnLoop, family: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = map(Peer, socket_pair(family, buffers=64 << 10))
        data = block(1 << 20)

        async def send(peer: Peer) -> None:
            await loop.sock_sendall(peer.sock, data)
            peer.fin()

        results = await asyncio.gather(send(ours), send(theirs), ours.read_to_end(), theirs.read_to_end())
        assert results[2] == results[3] == data
        ours.close()
        theirs.close()

    on_loop(main)


def test_receiving_waits_and_takes_what_is_there(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair()
        receiving = asyncio.create_task(loop.sock_recv(ours, 100))
        await turns()
        assert not receiving.done()
        theirs.sendall(b"hello")
        assert await receiving == b"hello"
        buffer = bytearray(10)
        theirs.sendall(b"again")
        assert await loop.sock_recv_into(ours, buffer) == 5
        assert buffer == b"again" + bytes(5)
        theirs.close()
        assert await loop.sock_recv(ours, 100) == b""
        assert await loop.sock_recv_into(ours, buffer) == 0
        ours.close()

    on_loop(main)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_what_can_be_sent(on_loop: OnLoop, kind: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair()
        await loop.sock_sendall(ours, kind(b"hello"))
        await loop.sock_sendall(ours, kind(b""))
        assert theirs.recv(100) == b"hello"
        ours.close()
        theirs.close()

    on_loop(main)


def test_a_cancelled_call_lets_go_of_the_socket(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair()
        for _ in range(3):
            receiving = asyncio.create_task(loop.sock_recv(ours, 100))
            await turns(3)
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
        theirs.sendall(b"kept")
        await turns(3)
        assert await loop.sock_recv(ours, 100) == b"kept"
        ours.close()
        theirs.close()

    on_loop(main)


def test_reading_and_writing_wait_at_once(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair(buffers=64 << 10)
        peer = Peer(theirs)
        receiving = asyncio.create_task(loop.sock_recv(ours, 10))
        sending = asyncio.create_task(loop.sock_sendall(ours, block(1 << 20)))
        await turns()
        assert not receiving.done()
        assert not sending.done()
        await peer.send(b"x")
        assert await receiving == b"x"
        assert not sending.done()
        assert await peer.read(1 << 20) == block(1 << 20)
        await sending
        ours.close()
        peer.close()

    on_loop(main)


def test_a_reset_is_raised(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair()
        receiving = asyncio.create_task(loop.sock_recv(ours, 100))
        await turns(3)
        Peer(theirs).reset()
        with pytest.raises(ConnectionResetError):
            await receiving
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await loop.sock_sendall(ours, b"anybody there?")
        ours.close()

    on_loop(main)


def test_accepting_and_connecting(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        accepting = asyncio.create_task(loop.sock_accept(listening))
        await turns(3)
        client = socket.socket()
        client.setblocking(False)
        await loop.sock_connect(client, listening.getsockname())
        accepted, address = await accepting
        assert address == client.getsockname()
        assert accepted.gettimeout() == 0
        await loop.sock_sendall(client, b"hello")
        assert await loop.sock_recv(accepted, 100) == b"hello"
        for sock in (client, accepted, listening):
            sock.close()

    on_loop(main)


def test_connecting_to_who_refuses(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with bind(0) as deaf, socket.socket() as client:
            client.setblocking(False)
            with pytest.raises(ConnectionRefusedError):
                await loop.sock_connect(client, deaf.getsockname())

    on_loop(main)


def test_connecting_by_name(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, ("localhost", listening.getsockname()[1]))
            assert client.getpeername() == listening.getsockname()

    on_loop(main)


@pytest.mark.parametrize("on_loop", ["epoll", "asyncio"], indirect=True)
def test_datagrams(on_loop: OnLoop) -> None:
    """uvloop has no such calls."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for sock in (ours, theirs):
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
        receiving = asyncio.create_task(loop.sock_recvfrom(ours, 100))
        await turns(3)
        assert await loop.sock_sendto(theirs, b"hello", ours.getsockname()) == 5
        assert await receiving == (b"hello", theirs.getsockname())
        buffer = bytearray(10)
        await loop.sock_sendto(theirs, b"again", ours.getsockname())
        assert await loop.sock_recvfrom_into(ours, buffer) == (5, theirs.getsockname())
        assert buffer[:5] == b"again"
        ours.close()
        theirs.close()

    on_loop(main)


def test_the_socket_of_a_transport_is_its_own(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair()
        recorder = Recorder()
        await loop.connect_accepted_socket(lambda: recorder, ours)
        with pytest.raises(RuntimeError, match="used by transport"):
            await loop.sock_recv(ours, 100)
        await recorder.end()
        theirs.close()

    on_loop(main)


def test_debug_mode_refuses_blocking_sockets(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as blocking:
            for call in (
                loop.sock_recv(blocking, 1),
                loop.sock_recv_into(blocking, bytearray(1)),
                loop.sock_sendall(blocking, b"x"),
                loop.sock_accept(blocking),
                loop.sock_connect(blocking, ("127.0.0.1", 1)),
            ):
                with pytest.raises(ValueError, match="must be non-blocking"):
                    await call

    on_loop(main, debug=True)


# sendfile


@pytest.mark.parametrize("on_loop", ["epoll", "asyncio"], indirect=True)
@pytest.mark.parametrize(("offset", "count"), [(0, None), (1000, None), (1000, 500_000), (0, 5 << 20)])
def test_a_file_through_a_transport(on_loop: OnLoop, tmp_path: Path, offset: int, count: int | None) -> None:
    """uvloop has no sendfile."""
    data = block(1 << 20)
    (tmp_path / "file").write_bytes(data)
    expected = data[offset:] if count is None else data[offset : offset + count]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        recorder = Recorder()
        peer = await attach(recorder, buffers=64 << 10)
        with (tmp_path / "file").open("rb") as file:
            recorder.transport.write(b"before ")
            sending = asyncio.create_task(loop.sendfile(recorder.transport, file, offset, count))
            assert await peer.read(7) == b"before "
            assert await peer.read(len(expected)) == expected
            assert await sending == len(expected)
            assert file.tell() == offset + len(expected)
        recorder.transport.write(b" after")
        assert await peer.read(6) == b" after"
        await peer.send(b"it reads on")
        await recorder.until("data")
        await recorder.end()
        peer.close()

    on_loop(main)


@pytest.mark.parametrize("on_loop", ["epoll", "asyncio"], indirect=True)
def test_a_file_through_a_socket(on_loop: OnLoop, tmp_path: Path) -> None:
    """uvloop has no sendfile."""
    data = block(1 << 20)
    (tmp_path / "file").write_bytes(data)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair(buffers=64 << 10)
        peer = Peer(theirs)
        with (tmp_path / "file").open("rb") as file:
            sending = asyncio.create_task(loop.sock_sendfile(ours, file))
            assert await peer.read(len(data)) == data
            assert await sending == len(data)
        ours.close()
        peer.close()

    on_loop(main)


def test_uvloop_has_no_sendfile(tmp_path: Path) -> None:
    """The reason why the two above leave it out."""
    (tmp_path / "file").write_bytes(b"x")

    async def main() -> None:
        recorder = Recorder()
        peer = await attach(recorder)
        with (tmp_path / "file").open("rb") as file, pytest.raises(NotImplementedError):
            await asyncio.get_running_loop().sendfile(recorder.transport, file)
        await recorder.end()
        peer.close()

    OnLoop("uvloop")(main)
