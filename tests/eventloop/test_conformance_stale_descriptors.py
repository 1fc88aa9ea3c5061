"""Descriptors' numbers that are used again, on every loop: whoever had them before neither tells nor is told anything.

A duplicate, as a forked child has it, keeps a closed connection in the kernel's epoll set.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.eventloop.conformance import OnLoop, Peer, Recorder, attach, attach_at, turns
from tests.eventloop.test_conformance_paused import Watchful
from tests.eventloop.test_conformance_servers import until


class Stale:
    """A connection that was ended while a duplicate of its descriptor is open: its number is the next to be used."""

    def __init__(self, number: int, duplicate: int, peer: Peer) -> None:
        self.number = number
        self._duplicate = duplicate
        self._peer = peer

    async def stir(self, end: Callable[[Peer], None]) -> None:
        """Give it bytes and an end, and the loop time to see them."""
        await self._peer.send(b"anybody there?")
        end(self._peer)
        await turns()

    def close(self) -> None:
        os.close(self._duplicate)


async def new_stale(family: str, end: str) -> Stale:
    recorder = Recorder()
    peer = await attach(recorder, family)
    number = recorder.transport.get_extra_info("socket").fileno()
    duplicate = os.dup(number)
    getattr(recorder.transport, end)()
    await recorder.until("lost")
    # The callback that told of the end is still in the hands of the loop.
    await turns()
    return Stale(number, duplicate, peer)


FAMILIES = pytest.mark.parametrize("family", ["tcp", "unix"])
ENDS = pytest.mark.parametrize("end", ["close", "abort"])


@FAMILIES
@ENDS
def test_a_paused_connection_is_not_told_of_the_old_ones_fin(on_loop: OnLoop, family: str, end: str) -> None:
    async def main() -> None:
        stale = await new_stale(family, end)
        innocent = Watchful()
        peer = await attach_at(stale.number, innocent, family)
        innocent.transport.pause_reading()
        await turns()
        await stale.stir(Peer.close)
        assert innocent.events == ["made"]
        innocent.transport.resume_reading()
        await peer.send(b"mine")
        await innocent.until("data")
        assert innocent.received == b"mine"
        await innocent.end()
        peer.close()
        stale.close()

    on_loop(main)


@FAMILIES
@ENDS
def test_a_connect_in_progress_is_not_taken_for_done(on_loop: OnLoop, family: str, end: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        full = socket.socket()
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        stale = await new_stale(family, end)
        # The lowest free number is the next to be given out.
        lower = []
        while (sock := socket.socket()).fileno() < stale.number:
            lower.append(sock)
        assert sock.fileno() == stale.number
        sock.setblocking(False)
        connecting = asyncio.create_task(loop.sock_connect(sock, full.getsockname()))
        await turns()
        assert not connecting.done()
        # An error wakes writers too.
        await stale.stir(Peer.reset)
        assert not connecting.done()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        for each in (*waiting, *lower, sock, full):
            each.close()
        stale.close()

    on_loop(main)


@pytest.mark.parametrize("refused", ["reader", "writer"])
def test_a_callback_that_was_refused_is_not_called_for_the_next_one(
    on_loop: OnLoop, tmp_path: Path, refused: str
) -> None:
    """A regular file can't be watched."""
    other = {"reader": "writer", "writer": "reader"}[refused]

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        called: list[str] = []
        with (tmp_path / "file").open("wb") as file:
            number = file.fileno()
            with pytest.raises(PermissionError):
                getattr(loop, f"add_{refused}")(number, called.append, refused)
        pair = socket.socketpair()
        ours, theirs = pair if pair[0].fileno() == number else pair[::-1]
        assert ours.fileno() == number
        theirs.send(b"x")
        getattr(loop, f"add_{other}")(number, called.append, other)
        await until(lambda: len(called) > 3)
        getattr(loop, f"remove_{other}")(number)
        assert set(called) == {other}
        # uvloop says nothing when there was none.
        assert not getattr(loop, f"remove_{refused}")(number)
        ours.close()
        theirs.close()

    on_loop(main)
