"""What our loop does beyond the contract that CPython's own tests check."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

if not hasattr(select, "epoll"):
    pytest.skip("epoll is there on Linux only", allow_module_level=True)

from lb.eventloop.loop import EpollEventLoop
from lb.sockets import reset

NO_LINGER = struct.pack("ii", 1, 0)


def run(main: Callable[[], Awaitable[Any]], *, debug: bool = False) -> Any:
    with asyncio.Runner(loop_factory=EpollEventLoop, debug=debug) as runner:
        return runner.run(main())  # type: ignore[arg-type]


class Recorder(asyncio.Protocol):
    """Writes down what happens to a connection."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self.changed = asyncio.Event()

    def note(self, event: object) -> None:
        self.events.append(event)
        self.changed.set()

    async def until(self, event: object) -> None:
        async with asyncio.timeout(5):
            while event not in self.events:
                await self.changed.wait()
                self.changed.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.note("made")

    def data_received(self, data: bytes) -> None:
        self.note(data)

    def eof_received(self) -> bool:
        self.note("eof")
        return True

    def peer_closed_while_paused(self) -> None:
        self.note("peer closed")

    def connection_lost(self, exc: Exception | None) -> None:
        self.note(("lost", type(exc)))


def pair(loop: Any) -> tuple[Recorder, socket.socket]:
    """Return a connection on the loop, and its plain other end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        sock, _ = server.accept()
    sock.setblocking(False)
    recorder = Recorder()
    loop.make_transport(recorder, sock)
    return recorder, peer


def test_a_transport_is_made_at_once_and_reads_at_once() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            peer = socket.create_connection(server.getsockname())
            peer.sendall(b"early")
            sock, _ = server.accept()
        select.select([sock], [], [], 5)
        sock.setblocking(False)
        recorder = Recorder()
        transport = asyncio.get_running_loop().make_transport(recorder, sock)  # type: ignore[attr-defined]
        assert recorder.events == ["made", b"early"]
        assert transport.get_extra_info("peername") == peer.getsockname()
        transport.close()
        peer.close()
        await recorder.until(("lost", type(None)))

    run(main)


def test_a_fin_is_told_while_reading_is_paused_and_the_data_before_it_is_kept() -> None:
    async def main() -> None:
        recorder, peer = pair(asyncio.get_running_loop())
        recorder.transport.pause_reading()
        peer.sendall(b"last words")
        peer.shutdown(socket.SHUT_WR)
        await recorder.until("peer closed")
        assert recorder.events == ["made", "peer closed"]
        recorder.transport.resume_reading()
        await recorder.until("eof")
        assert recorder.events == ["made", "peer closed", b"last words", "eof"]
        recorder.transport.close()
        await recorder.until(("lost", type(None)))
        peer.close()

    run(main)


def test_a_reset_is_told_while_reading_is_paused() -> None:
    async def main() -> None:
        recorder, peer = pair(asyncio.get_running_loop())
        recorder.transport.pause_reading()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        peer.close()
        await recorder.until(("lost", ConnectionResetError))

    run(main)


def test_a_reset_is_told_behind_a_half_close() -> None:
    async def main() -> None:
        recorder, peer = pair(asyncio.get_running_loop())
        peer.shutdown(socket.SHUT_WR)
        await recorder.until("eof")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        peer.close()
        # So Linux calls a reset of a connection whose FIN was received.
        await recorder.until(("lost", BrokenPipeError))

    run(main)


def test_a_paused_connection_that_is_closed_both_ways_does_not_spin() -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        recorder, peer = pair(loop)
        recorder.transport.pause_reading()
        recorder.transport.write_eof()
        peer.sendall(b"unread")
        peer.shutdown(socket.SHUT_WR)
        await recorder.until("peer closed")
        turns = 0
        run_once = loop._run_once

        def counted() -> None:
            nonlocal turns
            turns += 1
            run_once()

        loop._run_once = counted
        await asyncio.sleep(0.05)
        assert turns <= 5
        recorder.transport.resume_reading()
        await recorder.until("eof")
        assert b"unread" in recorder.events
        recorder.transport.close()
        await recorder.until(("lost", type(None)))
        peer.close()

    run(main)


def test_it_can_reset() -> None:
    async def main() -> None:
        recorder, peer = pair(asyncio.get_running_loop())
        reset(recorder.transport)
        await recorder.until(("lost", type(None)))
        with pytest.raises(ConnectionResetError):
            peer.recv(1)
        peer.close()

    run(main)


def test_one_busy_connection_does_not_starve_another() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        busy, busy_peer = pair(loop)
        calm, calm_peer = pair(loop)
        stop = threading.Event()

        def flood() -> None:
            block = bytes(1 << 20)
            while not stop.is_set():
                try:
                    busy_peer.sendall(block)
                except OSError:
                    return

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            await busy.until("made")
            for number in range(20):
                word = b"%02d" % number
                calm_peer.sendall(word)
                await calm.until(word)
        finally:
            stop.set()
            # The thread may stand in a send that nobody reads.
            busy_peer.shutdown(socket.SHUT_RDWR)
            thread.join()
            for recorder in (busy, calm):
                recorder.transport.abort()
            busy_peer.close()
            calm_peer.close()

    run(main)


def test_a_callback_that_schedules_itself_does_not_starve_events() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        recorder, peer = pair(loop)
        going = True

        def again() -> None:
            if going:
                loop.call_soon(again)

        again()
        peer.sendall(b"hello")
        await recorder.until(b"hello")
        going = False
        recorder.transport.abort()
        peer.close()
        await recorder.until(("lost", type(None)))

    run(main)


def test_short_sleeps_take_few_turns() -> None:
    async def main() -> int:
        loop: Any = asyncio.get_running_loop()
        turns = 0
        run_once = loop._run_once

        def counted() -> None:
            nonlocal turns
            turns += 1
            run_once()

        loop._run_once = counted
        for seconds in (1e-2, 1e-4, 1e-6, 1e-8, 1e-10):
            await asyncio.sleep(seconds)
        return turns

    assert run(main) <= 20


@pytest.mark.parametrize("debug", [False, True])
def test_another_thread_wakes_it(debug: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(done.set))
        thread.start()
        async with asyncio.timeout(5):
            await done.wait()
        thread.join()

    run(main, debug=debug)


def test_a_signal_wakes_it() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, done.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        async with asyncio.timeout(5):
            await done.wait()
        assert loop.remove_signal_handler(signal.SIGUSR1)
        assert not loop.remove_signal_handler(signal.SIGUSR1)

    run(main)


@pytest.mark.parametrize(
    "method",
    ["create_datagram_endpoint", "connect_read_pipe", "connect_write_pipe", "subprocess_exec", "subprocess_shell"],
)
def test_what_is_not_offered_says_so(method: str) -> None:
    async def main() -> None:
        with pytest.raises(NotImplementedError, match=method):
            await getattr(asyncio.get_running_loop(), method)()

    run(main)


def test_nothing_is_left_open() -> None:
    before = set(os.listdir("/proc/self/fd"))

    async def main() -> None:
        recorder, peer = pair(asyncio.get_running_loop())
        peer.close()
        await recorder.until("eof")
        recorder.transport.close()
        await recorder.until(("lost", type(None)))

    run(main)
    assert set(os.listdir("/proc/self/fd")) <= before
