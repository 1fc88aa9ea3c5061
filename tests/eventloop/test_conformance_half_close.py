"""Half-close on every loop: each direction ends by itself, behind all that was written in it."""

from __future__ import annotations

import asyncio

import pytest

from tests.eventloop.conformance import OnLoop, Recorder, attach, block, turns

FAMILIES = pytest.mark.parametrize("family", ["tcp", "unix"])
BUFFERS = 64 << 10
MUCH = 1 << 20
"""More bytes than the kernel takes into such buffers."""


@FAMILIES
@pytest.mark.parametrize("size", [0, 5, MUCH])
def test_the_fin_comes_behind_what_was_written(on_loop: OnLoop, family: str, size: int) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach(recorder, family, buffers=BUFFERS)
        assert recorder.transport.can_write_eof()
        data = block(size)
        recorder.transport.write(data)
        recorder.transport.write_eof()
        assert not recorder.transport.is_closing()
        assert await peer.read_to_end() == data
        assert "lost" not in recorder.events
        peer.close()
        await recorder.until("lost")
        assert recorder.error is None

    on_loop(main)


@FAMILIES
def test_reading_goes_on_behind_our_fin(on_loop: OnLoop, family: str) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach(recorder, family)
        recorder.transport.write(b"question")
        recorder.transport.write_eof()
        assert await peer.read_to_end() == b"question"
        data = block(MUCH)
        await peer.send(data)
        peer.fin()
        await recorder.until("lost")
        assert recorder.received == data
        assert recorder.events == ["made", "data", "eof", "lost"]
        assert recorder.error is None
        peer.close()

    on_loop(main)


def test_nothing_is_written_behind_our_fin(on_loop: OnLoop) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach(recorder)
        recorder.transport.write_eof()
        with pytest.raises(RuntimeError):
            recorder.transport.write(b"too late")
        recorder.transport.write_eof()
        assert await peer.read_to_end() == b""
        await recorder.end()
        assert recorder.error is None
        peer.close()

    on_loop(main)


def test_our_fin_while_reading_is_paused(on_loop: OnLoop) -> None:
    async def main() -> None:
        recorder = Recorder(keep_open=True)
        peer = await attach(recorder)
        recorder.transport.pause_reading()
        await peer.send(b"unread")
        recorder.transport.write(b"answer")
        recorder.transport.write_eof()
        assert await peer.read_to_end() == b"answer"
        await turns()
        assert not recorder.received
        recorder.transport.resume_reading()
        await recorder.until(lambda: recorder.received == b"unread")
        peer.fin()
        await recorder.until("eof")
        await recorder.end()
        assert recorder.error is None
        peer.close()

    on_loop(main)


@FAMILIES
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_both_directions_end_in_either_order(on_loop: OnLoop, family: str, first: str) -> None:
    async def main() -> None:
        recorder = Recorder(keep_open=True)
        peer = await attach(recorder, family)
        if first == "ours":
            recorder.transport.write_eof()
            assert await peer.read_to_end() == b""
            peer.fin()
            await recorder.until("eof")
        else:
            peer.fin()
            await recorder.until("eof")
            recorder.transport.write(b"last")
            recorder.transport.write_eof()
            assert await peer.read_to_end() == b"last"
        # Closed both ways, but not yet by us.
        await turns()
        assert "lost" not in recorder.events
        await recorder.end()
        await turns()
        assert recorder.events == ["made", "eof", "lost"]
        assert recorder.error is None
        peer.close()

    on_loop(main)


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("size", [0, MUCH])
def test_ending_behind_our_fin(on_loop: OnLoop, end: str, size: int) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach(recorder, buffers=BUFFERS)
        recorder.transport.write(block(size))
        recorder.transport.write_eof()
        getattr(recorder.transport, end)()
        received = await peer.read_to_end()
        assert received == block(size)[: len(received)]
        assert (len(received) == size) == (end == "close" or size == 0)
        await recorder.until("lost")
        assert recorder.events.count("lost") == 1
        assert recorder.error is None
        peer.close()

    on_loop(main)


@FAMILIES
def test_an_answer_behind_their_fin_that_the_kernel_can_not_take_at_once(on_loop: OnLoop, family: str) -> None:
    async def main() -> None:
        recorder = Recorder(keep_open=True)
        peer = await attach(recorder, family, buffers=BUFFERS)
        peer.fin()
        await recorder.until("eof")
        data = block(MUCH)
        recorder.transport.write(data)
        recorder.transport.close()
        assert await peer.read_to_end() == data
        await recorder.until("lost")
        assert recorder.error is None
        peer.close()

    on_loop(main)


def test_a_protocol_that_closes_at_the_fin_flushes_first(on_loop: OnLoop) -> None:
    async def main() -> None:
        recorder = Recorder(keep_open=False)
        peer = await attach(recorder, buffers=BUFFERS)
        data = block(MUCH)
        recorder.transport.write(data)
        peer.fin()
        await recorder.until("eof")
        assert recorder.transport.is_closing()
        assert await peer.read_to_end() == data
        await recorder.until("lost")
        assert recorder.error is None
        peer.close()

    on_loop(main)


def test_a_reset_behind_our_fin(on_loop: OnLoop) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach(recorder)
        recorder.transport.write_eof()
        assert await peer.read_to_end() == b""
        peer.reset()
        await recorder.until("lost")
        assert recorder.events == ["made", "lost"]
        assert type(recorder.error) is ConnectionResetError

    on_loop(main)


def test_a_reset_behind_their_fin(on_loop: OnLoop) -> None:
    async def main() -> None:
        recorder = Recorder(keep_open=True)
        peer = await attach(recorder)
        peer.fin()
        await recorder.until("eof")
        peer.reset()
        if on_loop.name == "epoll":
            # So Linux calls a reset of a connection whose FIN was received.
            await recorder.until("lost")
            assert type(recorder.error) is BrokenPipeError
        else:
            # Nothing is read behind the end, so they learn of it when they write.
            await turns()
            assert recorder.events == ["made", "eof"]
            while "lost" not in recorder.events:
                recorder.transport.write(b"anybody there?")
                await asyncio.sleep(0)
            assert isinstance(recorder.error, BrokenPipeError | ConnectionResetError)

    on_loop(main)


def test_a_protocol_that_closes_at_the_fin_and_asks_to_stay_open(on_loop: OnLoop) -> None:
    """It is closed. And the next socket of the same number is watched as if nothing had been."""

    class Closing(Recorder):
        def eof_received(self) -> bool:
            super().eof_received()
            self.transport.close()
            return True

    async def main() -> None:
        for _ in range(3):
            recorder = Closing()
            peer = await attach(recorder)
            await peer.send(b"data")
            peer.fin()
            await recorder.until("lost")
            assert recorder.events == ["made", "data", "eof", "lost"]
            assert recorder.error is None
            peer.close()

    on_loop(main)
