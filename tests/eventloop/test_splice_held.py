"""Back-pressure of a splice, pauses, bytes that go before it, and its end before its time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.eventloop.conformance import DEADLINE, OnLoop, Recorder, attach, block, turns
from tests.eventloop.splicing import PIPE_BYTES, End, Splices, Way, in_pipe, new_way

FAMILIES = pytest.mark.parametrize("family", ["tcp", "unix"])
FAR = 1 << 40


async def stand_still(way: Way) -> None:
    """Return when nothing has been passed on for many turns."""
    last, since = -1, 0
    while since < 50:
        await asyncio.sleep(0.001)
        since = since + 1 if way.source.passed == last else 0
        last = way.source.passed


@FAMILIES
def test_a_reader_that_stands_still(on_epoll: OnLoop, family: str) -> None:
    """The source is paused, little is buffered, and when the reader goes on nothing is missing."""
    data = block(16 << 20)

    async def main() -> None:
        way = await new_way(family, buffers=32 << 10)
        way.splice(len(data))
        sending = asyncio.ensure_future(way.sender.send(data))
        await way.target.until("paused")
        await stand_still(way)
        assert not way.source.transport.is_reading()
        assert way.target.transport.get_write_buffer_size() <= PIPE_BYTES
        assert way.source.passed < 2 << 20
        assert in_pipe() == 0
        assert not sending.done()
        assert await way.reader.read(len(data)) == data
        await sending
        await way.until_passed(len(data))
        assert way.target.events.count("paused") == way.target.events.count("resumed") > 0
        await way.end()

    on_epoll(main)


def test_a_target_with_a_low_limit(on_epoll: OnLoop) -> None:
    data = block(2 << 20)

    async def main() -> None:
        way = await new_way(buffers=8 << 10)
        way.target.transport.set_write_buffer_limits(high=0)
        way.splice(len(data))
        sending = asyncio.ensure_future(way.sender.send(data))
        await way.target.until("paused")
        assert await way.reader.read(len(data)) == data
        await sending
        assert "resumed" in way.target.events
        await way.end()

    on_epoll(main)


def test_nobody_holds_the_source(on_epoll: OnLoop) -> None:
    """Without back-pressure everything is buffered, in order."""
    data = block(8 << 20)

    async def main() -> None:
        way = await new_way(buffers=32 << 10)
        way.target.fed_by = None
        way.splice(len(data))
        await way.sender.send(data)
        await way.until_passed(len(data))
        assert way.target.transport.get_write_buffer_size() > len(data) // 2
        way.target.transport.write(b"behind it")
        assert await way.reader.read(len(data)) == data
        assert await way.reader.read(9) == b"behind it"
        await way.end()

    on_epoll(main)


@FAMILIES
def test_what_is_buffered_before_it_goes_first(on_epoll: OnLoop, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    first, data = block(1 << 20)[::-1], block(4 << 20)
    splices = Splices(monkeypatch)

    async def main() -> None:
        way = await new_way(family, buffers=32 << 10)
        way.target.fed_by = None
        way.target.transport.write(first)
        way.target.fed_by = way.source
        assert way.target.transport.get_write_buffer_size() > 0
        way.splice(len(data))
        sending = asyncio.ensure_future(way.sender.send(data))
        await way.until_passed(1)
        assert splices.calls == 0, "these are read, and go behind what is buffered"
        assert await way.reader.read(len(first)) == first
        assert await way.reader.read(len(data)) == data
        await sending
        assert way.source.passed == len(data)
        assert way.source.received == b""
        # When all of it was taken the kernel does it again.
        way.splice(4)
        await way.sender.send(b"more")
        assert await way.reader.read(4) == b"more"
        assert splices.bytes == 2 * 4
        await way.end()

    on_epoll(main)


@pytest.mark.parametrize("where", ["told", "between"])
def test_pausing_and_resuming(on_epoll: OnLoop, where: str) -> None:
    """While it is paused nothing is passed on; afterwards it goes on without a new byte's coming."""
    data = block(6 << 20)

    async def main() -> None:
        way = await new_way(buffers=512 << 10)
        way.splice(len(data))
        source = way.source
        pauses = 0
        if where == "told":
            source.then = lambda: source.transport.pause_reading()
        sending = asyncio.ensure_future(way.sender.send(data))
        reading = asyncio.ensure_future(way.reader.read(len(data)))
        while source.passed < len(data):
            before = source.passed
            await source.until(lambda before=before: source.passed > before)
            source.transport.pause_reading()
            held_at = source.passed
            await turns()
            assert source.passed == held_at
            assert not source.transport.is_reading()
            pauses += 1
            source.transport.resume_reading()
        assert await reading == data
        await sending
        assert pauses > 3
        source.then = None
        await way.sender.send(b"behind it")
        await source.until(lambda: source.received == b"behind it")
        await way.end()

    on_epoll(main)


def test_begun_while_it_is_paused(on_epoll: OnLoop) -> None:
    data = block(1 << 20)

    async def main() -> None:
        way = await new_way()
        way.source.transport.pause_reading()
        sending = asyncio.ensure_future(way.sender.send(data + b"behind it"))
        await turns()
        way.splice(len(data))
        await turns()
        assert way.source.events == ["made"]
        way.source.transport.resume_reading()
        assert await way.reader.read(len(data)) == data
        await sending
        await way.source.until(lambda: way.source.received == b"behind it")
        await way.end()

    on_epoll(main)


@FAMILIES
@pytest.mark.parametrize("where", ["told", "between", "held"])
def test_ended_before_its_time(on_epoll: OnLoop, family: str, where: str) -> None:
    """What was passed on, and what is received from then on, is all there was."""
    data = block(4 << 20)

    async def main() -> None:
        way = await new_way(family, buffers=256 << 10)
        source = way.source
        if where == "held":
            source.then = lambda: source.transport.pause_reading()
        elif where == "told":
            source.then = lambda: source.transport.end_splice()
        way.splice(FAR)
        sending = asyncio.ensure_future(way.sender.send(data))
        await way.until_passed(1)
        source.transport.end_splice()
        if where == "held":
            source.then = None
            await turns()
            assert source.received == b""
            source.transport.resume_reading()
        passed = source.passed
        assert 0 < passed < len(data)
        assert await way.reader.read(passed) == data[:passed]
        await source.until(lambda: len(source.received) == len(data) - passed)
        await sending
        assert source.received == data[passed:]
        assert source.passed == passed
        await way.end()

    on_epoll(main)


def test_ending_none(on_epoll: OnLoop) -> None:
    async def main() -> None:
        way = await new_way()
        way.source.transport.end_splice()
        await way.sender.send(b"data")
        await way.source.until(lambda: way.source.received == b"data")
        way.splice(4)
        await way.sender.send(b"data")
        await way.until_passed(4)
        way.source.transport.end_splice()
        await way.sender.send(b"more")
        await way.source.until(lambda: way.source.received == b"datamore")
        await way.end()
        way.source.transport.end_splice()
        assert not way.source.transport.splice_to(way.target.transport, 1)

    on_epoll(main)


def test_another_target_from_now_on(on_epoll: OnLoop) -> None:
    async def main() -> None:
        way = await new_way()
        other = Recorder()
        reader = await attach(other)
        way.splice(FAR)
        await way.sender.send(b"for one")
        assert await way.reader.read(7) == b"for one"
        assert way.source.transport.splice_to(other.transport, 9)
        await way.sender.send(b"for another, and behind")
        assert await reader.read(9) == b"for anoth"
        await way.source.until(lambda: way.source.received == b"er, and behind")
        assert way.source.passed == 7 + 9
        await other.end()
        reader.close()
        await way.end()

    on_epoll(main)


def test_begun_where_bytes_are_received(on_epoll: OnLoop) -> None:
    """As a head is read, with a part of the body behind it: the rest of the body is passed on from within."""
    data = block(4 << 20)

    class Reading(End):
        def data_received(self, received: bytes) -> None:
            super().data_received(received)
            way.target.transport.write(received)
            if len(self.received) < len(data):
                way.splice(len(data) - len(self.received))

    way: Way

    async def main() -> None:
        nonlocal way
        way = await new_way(source=Reading())
        _, arrived = await asyncio.gather(way.sender.send(data), way.reader.read(len(data)))
        assert arrived == data
        assert 0 < len(way.source.received) <= 256 << 10
        assert way.source.passed == len(data) - len(way.source.received)
        await way.end()

    on_epoll(main)


def test_others_have_their_turn(on_epoll: OnLoop) -> None:
    """A turn of the loop passes on at most a few pipes of one connection, however fast it comes and goes."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        way = await new_way(buffers=8 << 20)
        way.source.transport.pause_reading()
        way.splice(FAR)
        sending = asyncio.ensure_future(way.sender.send(bytes(16 << 20)))
        reading = asyncio.ensure_future(way.reader.read(16 << 20))
        await turns()
        run_once, most = loop._run_once, 0

        def measured() -> None:
            nonlocal most
            before = way.source.passed
            run_once()
            most = max(most, way.source.passed - before)

        loop._run_once = measured
        way.source.transport.resume_reading()
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(sending, reading)
        assert PIPE_BYTES // 4 < most <= 4 * PIPE_BYTES
        await way.end()

    on_epoll(main)


@pytest.mark.parametrize("who", ["sender", "reader"])
def test_who_stands_still_takes_few_turns(on_epoll: OnLoop, who: str) -> None:
    """Nothing is reported again and again while there is nothing to pass on, or nobody to pass it to."""

    async def main() -> int:
        loop: Any = asyncio.get_running_loop()
        way = await new_way(buffers=16 << 10)
        way.splice(FAR)
        if who == "sender":
            await way.sender.send(b"some")
            assert await way.reader.read(4) == b"some"
        else:
            sending = asyncio.ensure_future(way.sender.send(bytes(4 << 20)))
            await way.target.until("paused")
            await stand_still(way)
        run_once, count = loop._run_once, 0

        def counted() -> None:
            nonlocal count
            count += 1
            run_once()

        loop._run_once = counted
        await asyncio.sleep(0.02)
        if who == "reader":
            sending.cancel()
        await way.end()
        return count

    assert on_epoll(main) <= 10
