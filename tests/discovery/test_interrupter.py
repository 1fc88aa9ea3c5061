"""A thread that can be stopped wherever it waits."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from lb.discovery.interrupter import DaemonExecutor, InterruptedByStop, Interrupter
from tests.fakes import DEADLINE, eventually
from tests.integration.ports import BlackHole

PROMPTLY = 0.2


@pytest.fixture
def interrupter() -> Iterator[Interrupter]:
    interrupter = Interrupter()
    yield interrupter
    assert not interrupter._handles, "a handle was left"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def in_thread(function: Callable[[], object]) -> Future[object]:
    return DaemonExecutor().submit(function)


def connecting_to(port: int) -> int:
    """Return how many sockets are in the state SYN_SENT with that port of 127.0.0.1 (proc(5), /proc/net/tcp)."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(fields[2:4] == [f"0100007F:{port:04X}", "02"] for fields in map(str.split, lines))


def stop_and_time(interrupter: Interrupter, future: Future[object]) -> float:
    """Stop, and return after how many seconds the thread was done."""
    assert not future.done()
    began = time.monotonic()
    interrupter.stop()
    future.exception(DEADLINE)
    return time.monotonic() - began


class TestPause:
    def test_it_ends_by_itself(self, interrupter: Interrupter) -> None:
        began = time.monotonic()
        interrupter.pause(0.01)
        assert 0.01 <= time.monotonic() - began < DEADLINE
        interrupter.pause(0.0)

    def test_it_is_interrupted(self, interrupter: Interrupter) -> None:
        future = in_thread(lambda: interrupter.pause(60.0))
        assert stop_and_time(interrupter, future) < PROMPTLY
        assert isinstance(future.exception(), InterruptedByStop)

    @pytest.mark.parametrize("seconds", [0.0, 60.0])
    def test_once_stopped_it_does_not_begin(self, interrupter: Interrupter, seconds: float) -> None:
        assert not interrupter.is_stopping
        interrupter.stop()
        interrupter.stop()
        assert interrupter.is_stopping
        with pytest.raises(InterruptedByStop):
            interrupter.pause(seconds)


class TestSockets:
    def test_a_read_ends(self, interrupter: Interrupter, pair: tuple[socket.socket, socket.socket]) -> None:
        ours, theirs = pair
        ours.settimeout(60.0)
        handle = interrupter.watch(ours)
        future = in_thread(lambda: ours.recv(100))
        assert stop_and_time(interrupter, future) < PROMPTLY
        assert future.result() == b""
        assert theirs.recv(1) == b"", "the peer is told"
        interrupter.forget(handle)

    def test_a_connect_ends(self, interrupter: Interrupter) -> None:
        if not BlackHole.is_possible:
            pytest.skip("only Linux tells how full the queue of a listening socket is")
        hole = BlackHole()
        sock = socket.socket()
        try:
            sock.settimeout(60.0)
            handle = interrupter.watch(sock)
            before = connecting_to(hole.port)
            future = in_thread(lambda: sock.connect(("127.0.0.1", hole.port)))
            eventually(lambda: connecting_to(hole.port) > before, "the connect")
            assert stop_and_time(interrupter, future) < PROMPTLY
            assert isinstance(future.exception(), OSError)
            interrupter.forget(handle)
        finally:
            sock.close()
            hole.stop()

    def test_what_is_forgotten_is_left_alone(
        self, interrupter: Interrupter, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        ours, theirs = pair
        handle = interrupter.watch(ours)
        interrupter.forget(handle)
        assert handle.fileno() == -1
        interrupter.stop()
        theirs.sendall(b"x")
        assert ours.recv(1) == b"x"

    def test_the_handle_outlives_the_socket(
        self, interrupter: Interrupter, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        # ssl.wrap_socket detaches it; the number may be another's by then.
        ours, _ = pair
        handle = interrupter.watch(ours)
        wrapped = socket.socket(fileno=ours.detach())
        interrupter.stop()
        assert wrapped.recv(1) == b""
        wrapped.close()
        interrupter.forget(handle)

    def test_one_that_is_closed_already_is_passed_over(
        self, interrupter: Interrupter, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        ours, theirs = pair
        never_connected = socket.socket()
        handles = [interrupter.watch(never_connected), interrupter.watch(ours)]
        theirs.close()
        interrupter.stop()
        never_connected.close()
        for handle in handles:
            interrupter.forget(handle)

    def test_once_stopped_none_is_watched(
        self, interrupter: Interrupter, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        interrupter.stop()
        with pytest.raises(InterruptedByStop):
            interrupter.watch(pair[0])


class TestDaemonExecutor:
    def test_a_result_and_an_error(self) -> None:
        executor = DaemonExecutor()
        assert executor.submit(divmod, 7, 2).result(DEADLINE) == (3, 1)
        assert isinstance(executor.submit(divmod, 7, 0).exception(DEADLINE), ZeroDivisionError)

    def test_even_an_exit_stays_in_the_thread(self) -> None:
        assert isinstance(DaemonExecutor().submit(sys.exit, 1).exception(DEADLINE), SystemExit)

    def test_calls_do_not_wait_for_each_other(self) -> None:
        executor = DaemonExecutor()
        goes_on = threading.Event()
        first = executor.submit(goes_on.wait, DEADLINE)
        assert executor.submit(int).result(DEADLINE) == 0
        assert not first.done()
        goes_on.set()
        assert first.result(DEADLINE)

    def test_the_process_does_not_wait_for_its_threads(self) -> None:
        # With asyncio's own executor this would take an hour.
        program = (
            "import asyncio, time\n"
            "from lb.discovery.interrupter import DaemonExecutor\n"
            "async def main():\n"
            "    asyncio.get_running_loop().run_in_executor(DaemonExecutor(), time.sleep, 3600)\n"
            "asyncio.run(main())\n"
            "print('over')\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE)
        assert (done.returncode, done.stdout, done.stderr) == (0, "over\n", "")
