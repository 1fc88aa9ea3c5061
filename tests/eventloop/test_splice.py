"""Bytes that pass from one connection to another without entering Python: none is lost, doubled or reordered."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.eventloop.conformance import OnLoop, attach, block, descriptors, turns
from tests.eventloop.splicing import PIPE_BYTES, End, Splices, in_pipe, new_way

FAMILIES = pytest.mark.parametrize("family", ["tcp", "unix"])


@FAMILIES
@pytest.mark.parametrize("seed", range(12))
def test_byte_for_byte(on_epoll: OnLoop, monkeypatch: pytest.MonkeyPatch, family: str, seed: int) -> None:
    """Pieces and pauses of random sizes at both ends, through buffers of random sizes."""
    chance = random.Random(seed)
    data = chance.randbytes(chance.randrange(1 << 20, 3 << 20))
    splices = Splices(monkeypatch)

    async def main() -> None:
        way = await new_way(family, buffers=chance.choice([None, 8 << 10, 64 << 10]))
        way.splice(len(data))

        async def send() -> None:
            at = 0
            while at < len(data):
                size = chance.choice([1, 100, 4 << 10, 70_000, 500_000])
                await way.sender.send(data[at : at + size])
                at += size
                await turns(chance.randrange(3))

        async def read() -> bytes:
            parts = []
            left = len(data)
            while left:
                size = min(left, chance.choice([1, 4 << 10, 300_000]))
                parts.append(await way.reader.read(size))
                left -= size
                await turns(chance.randrange(3))
            return b"".join(parts)

        _, arrived = await asyncio.gather(send(), read())
        assert arrived == data
        await way.until_passed(len(data))
        assert way.source.passed == len(data)
        assert way.source.received == b""
        assert splices.bytes > 0
        assert in_pipe() == 0
        await way.end()

    on_epoll(main)


@FAMILIES
@pytest.mark.parametrize("count", [1, PIPE_BYTES - 1, PIPE_BYTES, PIPE_BYTES + 1, 5 * PIPE_BYTES])
def test_what_stands_behind_the_count_is_received(on_epoll: OnLoop, family: str, count: int) -> None:
    data = block(8 * PIPE_BYTES)

    async def main() -> None:
        way = await new_way(family)
        way.splice(count)
        _, arrived = await asyncio.gather(way.sender.send(data), way.reader.read(count))
        assert arrived == data[:count]
        await way.source.until(lambda: len(way.source.received) == len(data) - count)
        assert way.source.received == data[count:]
        assert way.source.passed == count
        assert way.source.events == ["made", "spliced", "data"]
        # And what comes later is received too.
        await way.sender.send(b"later")
        await way.source.until(lambda: way.source.received.endswith(b"later"))
        await way.end()

    on_epoll(main)


def test_one_behind_the_other_with_heads_in_between(on_epoll: OnLoop) -> None:
    head, body = b"head", block(PIPE_BYTES)
    rounds = 20

    class Reading(End):
        """Has a body passed on behind each head that it reads."""

        to: End

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.received.endswith(head):
                assert self.transport.splice_to(self.to.transport, len(body))

    async def main() -> None:
        source = Reading()
        way = await new_way(source=source)
        source.to = way.target
        for heads in range(len(head), (rounds + 1) * len(head), len(head)):
            # A head comes alone: how much of a body is read with it is another test's.
            await way.sender.send(head)
            await source.until(lambda heads=heads: len(source.received) == heads)
            _, arrived = await asyncio.gather(way.sender.send(body), way.reader.read(len(body)))
            assert arrived == body
        assert source.received == head * rounds
        assert source.passed == len(body) * rounds
        await way.end()

    on_epoll(main)


@FAMILIES
def test_both_directions_of_a_pair_at_once(on_epoll: OnLoop, family: str) -> None:
    there, back = block(4 << 20), block(3 << 20)[::-1]

    async def main() -> None:
        way = await new_way(family, buffers=32 << 10)
        left, right = way.source, way.target
        left.fed_by = right
        assert left.transport.splice_to(right.transport, len(there))
        assert right.transport.splice_to(left.transport, len(back))
        _, _, arrived_there, arrived_back = await asyncio.gather(
            way.sender.send(there), way.reader.send(back), way.reader.read(len(there)), way.sender.read(len(back))
        )
        assert arrived_there == there
        assert arrived_back == back
        assert (left.passed, right.passed) == (len(there), len(back))
        assert left.received == right.received == b""
        assert in_pipe() == 0
        await way.end()

    on_epoll(main)


def test_to_itself(on_epoll: OnLoop) -> None:
    data = block(2 << 20)

    async def main() -> None:
        echo = End()
        echo.fed_by = echo
        peer = await attach(echo, buffers=32 << 10)
        assert echo.transport.splice_to(echo.transport, len(data))
        _, arrived = await asyncio.gather(peer.send(data), peer.read(len(data)))
        assert arrived == data
        await echo.end()
        peer.close()

    on_epoll(main)


def test_many_pairs_share_one_pipe_and_leave_nothing_in_it(on_epoll: OnLoop) -> None:
    """Some thousands of turns of many pairs, with readers that are too slow: it is empty between any two of them."""
    pairs, size = 12, 1 << 20

    async def main() -> None:
        ways = [await new_way(buffers=[8 << 10, 64 << 10][n % 2]) for n in range(pairs)]
        data = [block(size + 4 * n) for n in range(pairs)]
        ways[0].splice(len(data[0]))
        before = descriptors()
        for way, piece in zip(ways[1:], data[1:], strict=True):
            way.splice(len(piece))
        looks = 0

        def look() -> None:
            nonlocal looks
            assert in_pipe() == 0
            looks += 1

        for way in ways:
            way.source.then = look
        reading = asyncio.gather(*[way.reader.read(len(piece)) for way, piece in zip(ways, data, strict=True)])
        sending = asyncio.gather(*[way.sender.send(piece) for way, piece in zip(ways, data, strict=True)])
        turn = 0
        while not reading.done():
            look()
            turn += 1
            await asyncio.sleep(0)
        await sending
        assert await reading == data
        assert looks > turn > 100
        assert descriptors() == before
        for way in ways:
            await way.end()

    on_epoll(main)


def test_thousands_of_splices_need_one_pipe(on_epoll: OnLoop) -> None:
    async def main() -> None:
        way = await new_way()
        before: set[str] = set()
        for number in range(3000):
            piece = b"%04d" % number
            way.splice(len(piece))
            await way.sender.send(piece)
            assert await way.reader.read(len(piece)) == piece
            assert in_pipe() == 0
            before = before or descriptors()
        assert descriptors() == before
        assert way.source.passed == 4 * 3000
        await way.end()

    on_epoll(main)
