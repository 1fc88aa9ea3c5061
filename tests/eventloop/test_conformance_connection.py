"""The life of a connection on every loop: what its protocol is told, in which order, and how often."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref

import pytest

from tests.eventloop.conformance import OnLoop, Peer, Recorder, attach, block, socket_pair, turns

FAMILIES = pytest.mark.parametrize("family", ["tcp", "unix"])


@FAMILIES
def test_made_data_eof_lost_each_in_its_order(on_loop: OnLoop, family: str) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach(recorder, family)
        await peer.send(b"hello")
        await recorder.until("data")
        peer.close()
        await recorder.until("lost")
        await turns()
        assert recorder.events == ["made", "data", "eof", "lost"]
        assert recorder.received == b"hello"
        assert recorder.error is None

    on_loop(main)


def test_made_comes_before_the_transport_is_handed_out(on_loop: OnLoop) -> None:
    async def main() -> None:
        accepted: list[Recorder] = []

        def accept() -> Recorder:
            accepted.append(Recorder())
            return accepted[-1]

        loop = asyncio.get_running_loop()
        server = await loop.create_server(accept, "127.0.0.1", 0)
        transport, client = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        assert client.events == ["made"]
        assert client.transport is transport
        transport.write(b"first")
        while not accepted:
            await asyncio.sleep(0)
        await accepted[0].until("data")
        assert accepted[0].events == ["made", "data"]
        await client.end()
        await accepted[0].until("lost")
        server.close()
        await server.wait_closed()

    on_loop(main)


@FAMILIES
@pytest.mark.parametrize("ends", ["close", "abort", "close close", "close abort", "abort close", "abort abort"])
def test_lost_comes_once_and_never_inside_the_call(on_loop: OnLoop, family: str, ends: str) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach(recorder, family)
        assert not recorder.transport.is_closing()
        for end in ends.split():
            getattr(recorder.transport, end)()
            assert recorder.transport.is_closing()
            assert "lost" not in recorder.events
        await recorder.until("lost")
        await turns()
        assert recorder.events == ["made", "lost"]
        assert recorder.error is None
        assert recorder.transport.is_closing()
        assert await peer.read_to_end() == b""
        peer.close()

    on_loop(main)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_connection_that_is_ended_as_soon_as_it_is_made_reads_nothing(on_loop: OnLoop, end: str) -> None:
    class Refusing(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            getattr(transport, end)()

    async def main() -> None:
        ours, theirs = socket_pair()
        theirs.sendall(b"early")
        refusing = Refusing()
        await asyncio.get_running_loop().connect_accepted_socket(lambda: refusing, ours)
        await refusing.until("lost")
        await turns()
        assert refusing.events == ["made", "lost"]
        theirs.close()

    on_loop(main)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_no_data_comes_after_it_was_ended_in_the_middle_of_data(on_loop: OnLoop, end: str) -> None:
    class Full(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.taken = len(self.received)
            getattr(self.transport, end)()

    async def main() -> None:
        full = Full()
        ours, theirs = socket_pair()
        theirs.setblocking(False)
        # More than any loop takes with one call.
        sent = theirs.send(bytes(1 << 20))
        await asyncio.get_running_loop().connect_accepted_socket(lambda: full, ours)
        await full.until("lost")
        await turns()
        assert full.events == ["made", "data", "lost"]
        assert len(full.received) == full.taken < sent
        theirs.close()

    on_loop(main)


@pytest.mark.parametrize("method", ["data_received", "eof_received"])
def test_a_callback_that_fails_loses_the_connection_with_its_error(on_loop: OnLoop, method: str) -> None:
    class Failing(Recorder):
        pass

    def fail(*_: object) -> None:
        raise ArithmeticError("out of fingers")

    setattr(Failing, method, fail)

    async def main() -> None:
        failing = Failing()
        peer = await attach(failing)
        await peer.send(b"one")
        peer.fin()
        await failing.until("lost")
        await turns()
        assert failing.events.count("lost") == 1
        assert isinstance(failing.error, ArithmeticError)
        assert failing.transport.is_closing()
        peer.close()

    on_loop(main)
    assert isinstance(on_loop.take_error(), ArithmeticError)


def test_what_a_transport_knows_of_its_socket(on_loop: OnLoop) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach(recorder)
        transport = recorder.transport
        assert transport.get_extra_info("peername") == peer.sock.getsockname()
        assert transport.get_extra_info("sockname") == peer.sock.getpeername()
        sock = transport.get_extra_info("socket")
        assert sock.family == socket.AF_INET
        assert sock.fileno() > 0
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
        assert transport.get_extra_info("ssl_object") is None
        assert transport.get_extra_info("no such thing", "instead") == "instead"
        await recorder.end()
        assert transport.get_extra_info("peername") == peer.sock.getsockname()
        peer.close()

    on_loop(main)


def test_small_writes_are_not_held_back(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        accepted = Recorder()
        server = await loop.create_server(lambda: accepted, "127.0.0.1", 0)
        _, client = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        await accepted.until("made")
        for transport in (accepted.transport, client.transport):
            assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await client.end()
        await accepted.until("lost")
        server.close()
        await server.wait_closed()

    on_loop(main)


def test_another_protocol_takes_over_in_the_middle(on_loop: OnLoop) -> None:
    async def main() -> None:
        first, second = Recorder(), Recorder()
        peer = await attach(first)
        assert first.transport.get_protocol() is first
        await peer.send(b"for the first")
        await first.until("data")
        first.transport.set_protocol(second)
        assert first.transport.get_protocol() is second
        await peer.send(b"for the second")
        await second.until("data")
        peer.close()
        await second.until("lost")
        assert first.events == ["made", "data"]
        assert first.received == b"for the first"
        assert second.events == ["data", "eof", "lost"]
        assert second.received == b"for the second"

    on_loop(main)


class Buffered(asyncio.BufferedProtocol):
    """Gives out pieces of one buffer, each as long as is asked of it."""

    def __init__(self, size: int) -> None:
        self.recorder = Recorder()
        self._buffer = bytearray(size)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.recorder.connection_made(transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        assert 0 < nbytes <= len(self._buffer)
        self.recorder.data_received(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> bool:
        return self.recorder.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.recorder.connection_lost(exc)


def test_a_buffered_protocol_receives_into_its_own_buffer(on_loop: OnLoop) -> None:
    async def main() -> None:
        buffered = Buffered(1000)
        peer = await attach(buffered)
        data = block(1 << 20)
        await peer.send(data)
        peer.close()
        await buffered.recorder.until("lost")
        assert buffered.recorder.events == ["made", "data", "eof", "lost"]
        assert buffered.recorder.received == data

    on_loop(main)


def test_a_buffered_protocol_and_a_plain_one_take_turns(on_loop: OnLoop) -> None:
    async def main() -> None:
        plain, buffered = Recorder(), Buffered(64)
        peer = await attach(plain)
        for number in range(4):
            now = buffered.recorder if number % 2 else plain
            plain.transport.set_protocol(buffered if number % 2 else plain)
            await peer.send(b"%d" % number)
            expected = b"02"[: number // 2 + 1] if now is plain else b"13"[: number // 2 + 1]
            await now.until(lambda now=now, expected=expected: now.received == expected)  # type: ignore[misc]
        plain.transport.abort()
        await buffered.recorder.until("lost")
        assert "lost" not in plain.events
        peer.close()

    on_loop(main)


def test_a_buffer_without_room_loses_the_connection(on_loop: OnLoop) -> None:
    async def main() -> None:
        buffered = Buffered(0)
        peer = await attach(buffered)
        await peer.send(b"x")
        await buffered.recorder.until("lost")
        assert isinstance(buffered.recorder.error, RuntimeError)
        peer.close()

    on_loop(main)
    assert isinstance(on_loop.take_error(), RuntimeError)


def test_an_ended_connection_keeps_nothing_alive(on_loop: OnLoop) -> None:
    async def main() -> None:
        recorder: Recorder | None = Recorder()
        peer: Peer = await attach(recorder)
        gc.disable()
        try:
            await recorder.end()
            gone = weakref.ref(recorder)
            recorder.transport, recorder = None, None
            # The callback that told of the end is still in the hands of the loop.
            await turns()
            assert gone() is None
        finally:
            gc.enable()
        peer.close()

    on_loop(main)


@FAMILIES
def test_streams_copy_megabytes_both_ways(on_loop: OnLoop, family: str) -> None:
    async def main() -> None:
        ours, theirs = socket_pair(family)
        (reader, writer), (far_reader, far_writer) = [
            await asyncio.open_connection(sock=sock)
            if family == "tcp"
            else await asyncio.open_unix_connection(sock=sock)
            for sock in (ours, theirs)
        ]

        async def copy() -> None:
            while data := await far_reader.read(10_000):
                far_writer.write(data)
                await far_writer.drain()
            far_writer.close()
            await far_writer.wait_closed()

        copying = asyncio.create_task(copy())
        data = block(2 << 20)
        reading = asyncio.create_task(reader.read(-1))
        writer.write(data)
        await writer.drain()
        writer.write_eof()
        assert await reading == data
        await copying
        writer.close()
        await writer.wait_closed()

    on_loop(main)
