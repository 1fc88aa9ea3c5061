"""No connection, however busy, keeps the others waiting: counted in turns of the loop, not in time."""

from __future__ import annotations

import asyncio
import select
import socket
from typing import Any

import pytest

if not hasattr(select, "epoll"):
    pytest.skip("epoll is there on Linux only", allow_module_level=True)

from lb.eventloop.loop import EpollEventLoop
from lb.listener import Listener
from tests.eventloop.conformance import OnLoop, Peer, Recorder, socket_pair

CALM = 40


class Endless(socket.socket):
    """A socket whose peer sends faster than anybody can read: each read is filled, and there is always more."""

    reads = 0

    def recv(self, size: int, *flags: int) -> bytes:
        self.reads += 1
        return bytes(size)

    def recv_into(self, buffer: Any, *arguments: int) -> int:
        self.reads += 1
        return len(buffer)


class Sink(asyncio.Protocol):
    """Takes what comes."""

    def data_received(self, data: bytes) -> None:
        pass


class BufferedSink(asyncio.BufferedProtocol):
    """Takes what comes into a buffer."""

    def __init__(self) -> None:
        self._buffer = bytearray(1024)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        pass


class Turns:
    """Counts the turns of the running loop from now on: a callback that asks for itself runs once in each."""

    def __init__(self) -> None:
        self.count = 0
        self._loop = asyncio.get_running_loop()
        self._going = True
        self._loop.call_soon(self._again)

    def _again(self) -> None:
        if self._going:
            self.count += 1
            self._loop.call_soon(self._again)

    def stop(self) -> None:
        self._going = False


def endless() -> tuple[Endless, socket.socket]:
    """Return an endless socket and the peer that keeps it readable."""
    ours, theirs = socket_pair()
    sock = Endless(fileno=ours.detach())
    sock.setblocking(False)
    theirs.sendall(b"there is something to read, for ever")
    return sock, theirs


@pytest.mark.parametrize("sink", [Sink, BufferedSink])
def test_connections_that_stream_without_end_do_not_starve_the_others(on_epoll: OnLoop, sink: type) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        streams = [endless() for _ in range(3)]
        transports = [loop.make_transport(sink(), sock) for sock, _ in streams]
        turns = Turns()
        while turns.count < 20:
            await asyncio.sleep(0)
        # They do stream: once in every turn.
        for sock, _ in streams:
            assert 10 <= sock.reads <= 2 * turns.count
        pairs = [socket_pair() for _ in range(CALM)]
        calm = [Recorder() for _ in pairs]
        for recorder, (ours, _) in zip(calm, pairs, strict=True):
            loop.make_transport(recorder, ours)
        for round_ in range(1, 6):
            began, reads = turns.count, [sock.reads for sock, _ in streams]
            for _, theirs in pairs:
                theirs.sendall(b"x")
            for recorder in calm:
                await recorder.until(lambda recorder=recorder, round_=round_: len(recorder.received) == round_)
            taken = turns.count - began
            assert taken <= 4
            for before, (sock, _) in zip(reads, streams, strict=True):
                assert sock.reads - before <= 2 * (taken + 1)
        turns.stop()
        for transport in (*transports, *(recorder.transport for recorder in calm)):
            transport.abort()
        for _, theirs in (*streams, *pairs):
            theirs.close()
        await asyncio.sleep(0)

    on_epoll(main)


def test_timers_and_callbacks_have_their_turn_beside_an_endless_stream(on_epoll: OnLoop) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        sock, theirs = endless()
        transport = loop.make_transport(Sink(), sock)
        for _ in range(10):
            before = sock.reads
            due = loop.create_future()
            loop.call_later(0, due.set_result, None)
            await due
            assert sock.reads - before <= 6
        transport.abort()
        theirs.close()
        await asyncio.sleep(0)

    on_epoll(main)


@pytest.mark.parametrize("kind", ["server", "listener"])
def test_a_crowd_at_the_door_does_not_starve_who_is_in(on_epoll: OnLoop, kind: str) -> None:
    crowd = 300

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        accepted: list[Recorder] = []

        def accept() -> Recorder:
            accepted.append(Recorder())
            return accepted[-1]

        ours, theirs = socket_pair()
        calm = Recorder()
        loop.make_transport(calm, ours)
        listening = socket.create_server(("127.0.0.1", 0), backlog=crowd)
        listening.setblocking(False)
        peers = [socket.create_connection(listening.getsockname()) for _ in range(crowd)]
        theirs.sendall(b"x")
        if kind == "server":
            server: Any = await loop.create_server(accept, sock=listening)
        else:
            server = Listener([listening], accept, loop)
            server.start()
        await calm.until("data")
        # A batch or two, not the whole crowd.
        assert len(accepted) < crowd
        turns = Turns()
        while len(accepted) < crowd:
            await asyncio.sleep(0)
        assert turns.count > 1
        turns.stop()
        for recorder in (calm, *accepted):
            recorder.transport.abort()
        for peer in (theirs, *peers):
            peer.close()
        for recorder in (calm, *accepted):
            await recorder.until("lost")
        if kind == "server":
            server.close()
            await server.wait_closed()
        else:
            await server.close()

    on_epoll(main)


def test_who_floods_the_loop_from_a_thread_does_not_starve_connections(on_epoll: OnLoop) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        ours, theirs = socket_pair()
        calm = Recorder()
        loop.make_transport(calm, ours)
        peer = Peer(theirs)
        calls = 0

        def called() -> None:
            # As another thread would: from whichever thread, it is the next turn's.
            nonlocal calls
            calls += 1
            if not calm.received:
                loop.call_soon_threadsafe(called)
                loop.call_soon_threadsafe(called)

        called()
        await peer.send(b"x")
        await calm.until("data")
        # Two for each of the turn before: it takes few turns.
        assert calls < 1 << 10
        await calm.end()
        peer.close()

    on_epoll(main)


def test_callbacks_that_are_ready_do_not_keep_the_events_waiting() -> None:
    """However many are ready, only so many run before the sockets are looked at again."""
    ran = 0

    def callback() -> None:
        nonlocal ran
        ran += 1

    class Counting(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            seen.set_result(ran)

    async def main() -> int:
        nonlocal seen
        loop = asyncio.get_running_loop()
        seen = loop.create_future()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            transport, _ = await loop.connect_accepted_socket(Counting, ours)
            for _ in range(20_000):
                loop.call_soon(callback)
            theirs.send(b"x")
            ran_then = await seen
            transport.close()
        while ran < 20_000:
            await asyncio.sleep(0)
        return ran_then

    seen: asyncio.Future[int]
    with asyncio.Runner(loop_factory=EpollEventLoop) as runner:
        assert runner.run(main()) < 5_000
