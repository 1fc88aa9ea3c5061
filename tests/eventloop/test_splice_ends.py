"""Ends in the middle of a splice: FIN, RST, close and abort of either side."""

from __future__ import annotations

import asyncio
import errno

import pytest

from tests.eventloop.conformance import OnLoop, block, turns
from tests.eventloop.splicing import PIPE_BYTES, End, RefusedSplices, Splices, in_pipe, new_way

FAMILIES = pytest.mark.parametrize("family", ["tcp", "unix"])
FAR = 1 << 40


@FAMILIES
@pytest.mark.parametrize("size", [0, 1, 5 * PIPE_BYTES])
@pytest.mark.parametrize("keep_open", [True, False])
def test_a_fin_of_the_source(on_epoll: OnLoop, family: str, size: int, keep_open: bool) -> None:
    data = block(5 * PIPE_BYTES)[:size]

    async def main() -> None:
        way = await new_way(family, source=End(keep_open=keep_open))
        way.splice(FAR)

        async def send() -> None:
            await way.sender.send(data)
            way.sender.fin()

        _, arrived = await asyncio.gather(send(), way.reader.read(size))
        assert arrived == data
        await way.source.until("eof" if keep_open else "lost")
        told = ["made", *(["spliced"] if size else []), "eof"]
        assert way.source.events == (told if keep_open else [*told, "lost"])
        assert way.source.passed == size
        assert way.source.error is None
        assert not way.source.transport.splice_to(way.target.transport, 1), "behind the end"
        # The target goes on.
        way.target.transport.write(b"and more")
        assert await way.reader.read(8) == b"and more"
        await way.end()

    on_epoll(main)


def test_a_fin_right_behind_the_last_byte(on_epoll: OnLoop) -> None:
    data = block(3 * PIPE_BYTES)

    async def main() -> None:
        way = await new_way(buffers=4 * PIPE_BYTES)
        way.source.transport.pause_reading()
        way.splice(len(data))
        assert way.sender.sock.send(data) == len(data)
        way.sender.fin()
        await turns()
        way.source.transport.resume_reading()
        assert await way.reader.read(len(data)) == data
        await way.source.until("eof")
        assert way.source.passed == len(data)
        assert way.source.events == ["made", "spliced", "eof"]
        await way.end()

    on_epoll(main)


def test_a_reset_of_the_source(on_epoll: OnLoop) -> None:
    async def main() -> None:
        way = await new_way()
        way.splice(FAR)
        await way.sender.send(b"before")
        assert await way.reader.read(6) == b"before"
        way.sender.reset()
        await way.source.until("lost")
        assert type(way.source.error) is ConnectionResetError
        assert way.source.events == ["made", "spliced", "lost"]
        await turns()
        assert way.target.events == ["made"]
        way.target.transport.write(b"and more")
        assert await way.reader.read(8) == b"and more"
        await way.end()

    on_epoll(main)


def test_a_reset_of_the_source_while_it_is_held(on_epoll: OnLoop) -> None:
    async def main() -> None:
        way = await new_way(buffers=16 << 10)
        way.splice(FAR)
        sending = asyncio.ensure_future(way.sender.send(bytes(4 << 20)))
        await way.target.until("paused")
        assert not way.source.transport.is_reading()
        sending.cancel()
        way.sender.reset()
        await way.source.until("lost")
        assert type(way.source.error) is ConnectionResetError
        # What had been passed on arrives all the same.
        assert await way.reader.read(way.source.passed) == bytes(way.source.passed)
        await way.end()

    on_epoll(main)


def test_a_reset_of_the_target(on_epoll: OnLoop) -> None:
    """The source is not harmed: nothing is told of what goes nowhere, until the splice is ended."""

    async def main() -> None:
        way = await new_way()
        way.splice(FAR)
        await way.sender.send(b"before")
        assert await way.reader.read(6) == b"before"
        way.reader.reset()
        await way.target.until("lost")
        assert isinstance(way.target.error, ConnectionResetError | BrokenPipeError)
        await way.sender.send(block(1 << 20))
        await way.until_passed(6 + (1 << 20))
        assert in_pipe() == 0
        assert way.source.events == ["made", "spliced"]
        way.source.transport.end_splice()
        await way.sender.send(b"behind it")
        await way.source.until(lambda: way.source.received == b"behind it")
        await way.end()

    on_epoll(main)


@pytest.mark.parametrize("closes", ["reset", "close"])
def test_a_reader_that_leaves_while_it_is_slow(on_epoll: OnLoop, closes: str) -> None:
    """Its unread bytes make a reset of its close."""

    async def main() -> None:
        way = await new_way(buffers=16 << 10)
        way.splice(FAR)
        sending = asyncio.ensure_future(way.sender.send(bytes(4 << 20)))
        await way.target.until("paused")
        getattr(way.reader, closes)()
        await way.target.until("lost")
        assert isinstance(way.target.error, ConnectionResetError | BrokenPipeError)
        assert way.target.transport.get_write_buffer_size() == 0
        assert in_pipe() == 0
        sending.cancel()
        await way.end()

    on_epoll(main)


def test_a_reset_of_the_target_seen_by_the_splice(on_epoll: OnLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipe is emptied: what is in it must not go to somebody else."""

    async def main() -> None:
        way, other = await new_way(), await new_way()
        RefusedSplices(monkeypatch, 1, errno.EPIPE)
        way.splice(FAR)
        await way.sender.send(b"lost")
        await way.target.until("lost")
        assert isinstance(way.target.error, BrokenPipeError)
        assert way.source.passed == 4
        assert in_pipe() == 0
        monkeypatch.undo()
        other.splice(FAR)
        await other.sender.send(b"others'")
        assert await other.reader.read(7) == b"others'"
        await way.end()
        await other.end()

    on_epoll(main)


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("when", ["told", "between"])
def test_ended_by_us(on_epoll: OnLoop, side: str, how: str, when: str) -> None:
    data = block(8 << 20)

    async def main() -> None:
        way = await new_way(buffers=64 << 10)
        way.splice(len(data))
        ended = getattr(way, side)
        passed_by_then = 0

        def end() -> None:
            nonlocal passed_by_then
            way.source.then = None
            passed_by_then = way.source.passed
            getattr(ended.transport, how)()

        sending = asyncio.ensure_future(way.sender.send(data))
        reading = asyncio.ensure_future(way.reader.read_to_end())
        if when == "told":
            way.source.then = end
        else:
            await way.until_passed(1)
            end()
        await ended.until("lost")
        assert ended.error is None
        assert 0 < passed_by_then < len(data)
        assert in_pipe() == 0
        if side == "source":
            await turns()
            assert way.source.passed == passed_by_then, "nothing is read any more"
            assert "lost" not in way.target.events
            way.target.transport.close()
        arrived = await reading
        assert arrived == data[: len(arrived)]
        if side == "source" or how == "close":
            assert len(arrived) >= passed_by_then
        else:
            assert len(arrived) <= passed_by_then
        way.source.transport.abort()
        with pytest.raises(ConnectionError):
            await sending
        await way.end()

    on_epoll(main)


@pytest.mark.parametrize("side", ["source", "target"])
def test_aborted_while_the_target_is_full(on_epoll: OnLoop, side: str) -> None:
    async def main() -> None:
        way = await new_way(buffers=16 << 10)
        way.splice(FAR)
        sending = asyncio.ensure_future(way.sender.send(bytes(4 << 20)))
        await way.target.until("paused")
        ended = getattr(way, side)
        ended.transport.abort()
        await ended.until("lost")
        assert ended.error is None
        if side == "source":
            with pytest.raises(ConnectionError):
                await sending
            assert await way.reader.read(way.source.passed) == bytes(way.source.passed)
            assert way.target.events[-1] == "resumed"
        sending.cancel()
        await way.end()

    on_epoll(main)


def test_the_source_has_sent_its_own_fin(on_epoll: OnLoop) -> None:
    data = block(1 << 20)

    async def main() -> None:
        way = await new_way()
        way.source.transport.write_eof()
        way.splice(len(data))
        _, arrived = await asyncio.gather(way.sender.send(data), way.reader.read(len(data)))
        assert arrived == data
        assert await way.sender.read_to_end() == b""
        await way.end()

    on_epoll(main)


def test_the_target_has_received_a_fin(on_epoll: OnLoop) -> None:
    data = block(4 << 20)

    async def main() -> None:
        way = await new_way(buffers=64 << 10)
        way.splice(len(data))
        way.reader.fin()
        await way.target.until("eof")
        _, arrived = await asyncio.gather(way.sender.send(data), way.reader.read(len(data)))
        assert arrived == data
        assert "lost" not in way.target.events
        await way.end()

    on_epoll(main)


def test_a_fin_that_comes_while_it_is_held(on_epoll: OnLoop) -> None:
    class Watchful(End):
        def peer_closed_while_paused(self) -> None:
            self.note("peer closed")

    data = block(1 << 20)

    async def main() -> None:
        way = await new_way(source=Watchful())
        way.source.transport.pause_reading()
        way.splice(FAR)
        sending = asyncio.ensure_future(way.sender.send(data))
        await turns()
        assert way.source.passed == 0
        way.source.transport.resume_reading()
        assert await way.reader.read(len(data)) == data
        await sending
        way.source.transport.pause_reading()
        await way.sender.send(b"behind it")
        way.sender.fin()
        await way.source.until("peer closed")
        assert way.source.events == ["made", "spliced", "peer closed"]
        way.source.transport.resume_reading()
        await way.source.until("eof")
        assert await way.reader.read(9) == b"behind it"
        assert way.source.passed == len(data) + 9
        await way.end()

    on_epoll(main)


def test_a_protocol_that_fails_when_it_is_told(on_epoll: OnLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    splices = Splices(monkeypatch)

    async def main() -> None:
        way = await new_way()
        way.splice(FAR)

        def fail() -> None:
            raise ValueError("told")

        way.source.then = fail
        await way.sender.send(b"data")
        await way.source.until("lost")
        assert str(way.source.error) == "told"
        assert str(on_epoll.take_error()) == "told"
        assert await way.reader.read(4) == b"data"
        assert splices.calls == 2
        await way.end()

    on_epoll(main)
