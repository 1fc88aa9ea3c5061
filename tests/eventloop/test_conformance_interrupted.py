"""SystemExit and KeyboardInterrupt out of a protocol end the loop's run, and no bytes are lost to who runs it again."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from tests.eventloop.conformance import DEADLINE, Echo, OnLoop, Recorder, socket_pair

LAST = pytest.mark.parametrize("last", [SystemExit, KeyboardInterrupt])
# uvloop tells its exception handler, and loses the connection.
LOOPS = pytest.mark.parametrize("on_loop", ["epoll", "asyncio"], indirect=True)


class Leaving(Echo):
    """Wants out at the first bytes that any of them receives."""

    def __init__(self, last: type[BaseException], leavers: list[Leaving]) -> None:
        super().__init__()
        self._last = last
        self._leavers = leavers

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._leavers:
            self._leavers.append(self)
            raise self._last


class Interrupted:
    """A loop that some connections have ended, and that runs again."""

    def __init__(self, on_loop: OnLoop, last: type[BaseException]) -> None:
        self.loop: Any = on_loop.new()
        self.leavers: list[Leaving] = []
        self._last = last
        self._sockets: list[socket.socket] = []

    def connect(self) -> tuple[Leaving, socket.socket]:
        """Return a connection, and its plain other end."""
        leaving = Leaving(self._last, self.leavers)
        ours, theirs = socket_pair("unix")
        self._sockets.append(theirs)
        self.run(self.loop.connect_accepted_socket(lambda: leaving, ours))
        return leaving, theirs

    def leave(self) -> None:
        """Run until somebody wants out."""
        timer = self.loop.call_later(DEADLINE, self.loop.stop)
        with pytest.raises(self._last):
            self.loop.run_forever()
        timer.cancel()

    def run(self, what: Any) -> None:
        self.loop.run_until_complete(asyncio.wait_for(what, DEADLINE))

    def close(self) -> None:
        for recorder in list(Recorder.connected):
            recorder.transport.abort()
        self.run(asyncio.sleep(0))
        for sock in self._sockets:
            sock.close()
        self.loop.close()


@LOOPS
@LAST
def test_more_bytes_than_one_read_takes(on_loop: OnLoop, last: type[BaseException]) -> None:
    interrupted = Interrupted(on_loop, last)
    try:
        leaving, theirs = interrupted.connect()
        # Longer than our first read, shorter than what asyncio takes at once and what the kernel keeps.
        data = bytes(100_000)
        theirs.sendall(data)
        interrupted.leave()
        interrupted.run(leaving.until(lambda: leaving.received == data))
        assert interrupted.leavers == [leaving]
    finally:
        interrupted.close()


@LOOPS
@LAST
def test_a_fin_behind_the_bytes(on_loop: OnLoop, last: type[BaseException]) -> None:
    interrupted = Interrupted(on_loop, last)
    try:
        leaving, theirs = interrupted.connect()
        theirs.sendall(b"last words")
        theirs.shutdown(socket.SHUT_WR)
        interrupted.leave()
        interrupted.run(leaving.until("lost"))
        assert leaving.received == b"last words"
        assert leaving.events == ["made", "data", "eof", "lost"]
        assert leaving.error is None
    finally:
        interrupted.close()


@LOOPS
@LAST
def test_others_that_have_bytes_in_the_same_turn(on_loop: OnLoop, last: type[BaseException]) -> None:
    interrupted = Interrupted(on_loop, last)
    try:
        connections = [interrupted.connect() for _ in range(5)]
        for _, theirs in connections:
            theirs.sendall(b"hello")
        interrupted.leave()
        assert len(interrupted.leavers) == 1
        for leaving, _ in connections:
            interrupted.run(leaving.until("data"))
            assert leaving.received == b"hello"
    finally:
        interrupted.close()
