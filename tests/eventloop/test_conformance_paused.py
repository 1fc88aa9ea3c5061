"""What comes while reading is paused: our loop tells of the peer's FIN and RST, the others when reading goes on."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from tests.eventloop.conformance import OnLoop, Peer, Recorder, attach, block, turns

FAMILIES = pytest.mark.parametrize("family", ["tcp", "unix"])


class Watchful(Recorder):
    """Wants to know of a FIN at once."""

    def peer_closed_while_paused(self) -> None:
        self.note("peer closed")


async def attach_paused(recorder: Recorder, family: str = "tcp") -> Peer:
    peer = await attach(recorder, family)
    recorder.transport.pause_reading()
    # Ours asks the kernel for nothing less until there is something that must not be read.
    await turns()
    return peer


@FAMILIES
@pytest.mark.parametrize("data", [b"", b"last words"])
def test_a_fin(on_loop: OnLoop, family: str, data: bytes) -> None:
    async def main() -> None:
        recorder = Watchful(keep_open=True)
        peer = await attach_paused(recorder, family)
        await peer.send(data)
        peer.fin()
        if on_loop.name == "epoll":
            await recorder.until("peer closed")
        await turns()
        told = ["peer closed"] if on_loop.name == "epoll" else []
        assert recorder.events == ["made", *told]
        for _ in range(2):
            recorder.transport.pause_reading()
            await turns()
            recorder.transport.resume_reading()
        await recorder.until("eof")
        assert recorder.received == data
        assert recorder.events[: len(told) + 1] == ["made", *told]
        assert recorder.events.count("peer closed") == len(told)
        recorder.transport.write(b"answer")
        assert await peer.read(6) == b"answer"
        await recorder.end()
        peer.close()

    on_loop(main)


@FAMILIES
def test_a_reset(on_loop: OnLoop, family: str) -> None:
    async def main() -> None:
        recorder = Watchful()
        peer = await attach_paused(recorder, family)
        if family == "unix":
            # What it has not read makes a reset of its close.
            recorder.transport.write(b"never read")
        peer.reset()
        if on_loop.name != "epoll":
            await turns()
            assert recorder.events == ["made"]
            recorder.transport.resume_reading()
        await recorder.until("lost")
        await turns()
        assert type(recorder.error) is ConnectionResetError
        assert recorder.events.count("lost") == 1
        assert "eof" not in recorder.events

    on_loop(main)


def test_a_reset_behind_a_fin_that_was_told(on_epoll: OnLoop) -> None:
    async def main() -> None:
        recorder = Watchful()
        peer = await attach_paused(recorder)
        await peer.send(b"unread")
        peer.fin()
        await recorder.until("peer closed")
        peer.reset()
        await recorder.until("lost")
        assert isinstance(recorder.error, BrokenPipeError | ConnectionResetError)
        assert recorder.events == ["made", "peer closed", "lost"]

    on_epoll(main)


def test_a_fin_is_not_told_to_who_reads(on_epoll: OnLoop) -> None:
    async def main() -> None:
        recorder = Watchful(keep_open=True)
        peer = await attach(recorder)
        await peer.send(b"data")
        peer.fin()
        await recorder.until("eof")
        await turns()
        recorder.transport.pause_reading()
        await turns()
        assert recorder.events == ["made", "data", "eof"]
        await recorder.end()
        peer.close()

    on_epoll(main)


def test_a_fin_is_told_to_who_pauses_behind_it(on_epoll: OnLoop) -> None:
    class Choking(Watchful):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    async def main() -> None:
        choking = Choking(keep_open=True)
        # Room for more than one read takes, and for the FIN behind it.
        peer = await attach(choking, buffers=1 << 20)
        assert peer.sock.send(block(128 << 10)) == 128 << 10
        peer.fin()
        await choking.until("peer closed")
        assert choking.events == ["made", "data", "peer closed"]
        await choking.end()
        peer.close()

    on_epoll(main)


def test_a_protocol_that_ends_when_it_is_told_of_the_fin(on_epoll: OnLoop) -> None:
    class Impatient(Watchful):
        def peer_closed_while_paused(self) -> None:
            super().peer_closed_while_paused()
            self.transport.abort()

    async def main() -> None:
        impatient = Impatient()
        peer = await attach_paused(impatient)
        await peer.send(b"unread")
        peer.fin()
        await impatient.until("lost")
        assert impatient.events == ["made", "peer closed", "lost"]
        assert impatient.error is None
        peer.close()

    on_epoll(main)


def test_writing_goes_on_behind_a_fin_that_was_told(on_epoll: OnLoop) -> None:
    async def main() -> None:
        recorder = Watchful()
        peer = await attach(recorder, buffers=64 << 10)
        recorder.transport.pause_reading()
        data = block(1 << 20)
        recorder.transport.write(data)
        peer.fin()
        await recorder.until("peer closed")
        assert await peer.read(len(data)) == data
        await recorder.until("resumed")
        assert recorder.events == ["made", "paused", "peer closed", "resumed"]
        await recorder.end()
        peer.close()

    on_epoll(main)


@pytest.mark.parametrize("closes", ["fin", "reset"])
def test_what_is_paused_and_ended_takes_few_turns(on_epoll: OnLoop, closes: str) -> None:
    """What must not be read is not reported again and again."""

    async def main() -> int:
        loop: Any = asyncio.get_running_loop()
        recorder = Watchful()
        peer = await attach_paused(recorder)
        await peer.send(b"unread")
        getattr(peer, closes)()
        await recorder.until("peer closed" if closes == "fin" else "lost")
        run_once, count = loop._run_once, 0

        def counted() -> None:
            nonlocal count
            count += 1
            run_once()

        loop._run_once = counted
        await asyncio.sleep(0.02)
        recorder.transport.abort()
        await recorder.until("lost")
        peer.close()
        return count

    assert on_epoll(main) <= 6


def test_a_transport_without_a_task_is_told_the_same(on_epoll: OnLoop) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        recorder = Watchful()
        with socket.create_server(("127.0.0.1", 0)) as server:
            peer = Peer(socket.create_connection(server.getsockname()))
            sock, _ = server.accept()
        sock.setblocking(False)
        transport = loop.make_transport(recorder, sock)
        assert recorder.events == ["made"]
        assert transport is recorder.transport
        assert transport.get_protocol() is recorder
        transport.pause_reading()
        peer.fin()
        await recorder.until("peer closed")
        transport.resume_reading()
        await recorder.until("lost")
        assert recorder.events == ["made", "peer closed", "eof", "lost"]
        peer.close()

    on_epoll(main)
