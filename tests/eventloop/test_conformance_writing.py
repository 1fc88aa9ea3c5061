"""Writing on every loop: order, back-pressure, half-close, and what close and abort do with what is not sent yet."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from tests.eventloop.conformance import OnLoop, Peer, Recorder, attach, block, turns

FAMILIES = pytest.mark.parametrize("family", ["tcp", "unix"])
BUFFERS = 64 << 10
MUCH = 1 << 20
"""More bytes than the kernel takes into such buffers."""


async def attach_narrow(recorder: Recorder, family: str = "tcp") -> Peer:
    return await attach(recorder, family, buffers=BUFFERS)


async def fill(recorder: Recorder) -> int:
    """Write until the transport has to keep bytes itself; return how many were written."""
    data = block(MUCH)
    recorder.transport.write(data)
    await turns()
    assert recorder.transport.get_write_buffer_size() > 0
    return len(data)


@FAMILIES
def test_bytes_keep_their_order_under_back_pressure(on_loop: OnLoop, family: str) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach(recorder, family)
        data = block(2 << 20)
        at, size = 0, 1
        while at < len(data):
            recorder.transport.write(data[at : at + size])
            at, size = at + size, size % 99_991 * 3 + 1
            if at % 7 == 0:
                await asyncio.sleep(0)
        recorder.transport.close()
        received = await peer.read_to_end()
        assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()
        await recorder.until("lost")
        assert recorder.error is None
        peer.close()

    on_loop(main)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_what_can_be_written(on_loop: OnLoop, kind: Any) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach(recorder)
        recorder.transport.write(kind(b"one "))
        recorder.transport.write(kind(b""))
        recorder.transport.writelines([kind(b"two "), kind(b""), kind(b"three")])
        recorder.transport.writelines([])
        assert await peer.read(13) == b"one two three"
        await recorder.end()
        peer.close()

    on_loop(main)


@pytest.mark.parametrize("wrong", ["text", 5])
def test_what_can_not_be_written(on_loop: OnLoop, wrong: Any) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach(recorder)
        with pytest.raises(TypeError):
            recorder.transport.write(wrong)
        recorder.transport.write(b"fine")
        assert await peer.read(4) == b"fine"
        await recorder.end()
        peer.close()

    on_loop(main)


def test_a_buffer_may_be_used_again_once_it_was_written(on_epoll: OnLoop) -> None:
    """uvloop, and asyncio from Python 3.12 on, send whatever is in it by then."""

    async def main() -> None:
        recorder = Recorder()
        peer = await attach_narrow(recorder)
        written = await fill(recorder)
        again = bytearray(b"first")
        recorder.transport.write(again)
        again[:] = b"other"
        recorder.transport.write(memoryview(again))
        again[:] = b"third"
        await peer.read(written)
        assert await peer.read(10) == b"firstother"
        await recorder.end()
        peer.close()

    on_epoll(main)


def test_the_limits_that_pause_a_protocol(on_loop: OnLoop) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach(recorder)
        transport = recorder.transport
        # uvloop's low one is meant to be the same, but lacks the factor of 1024.
        assert transport.get_write_buffer_limits() == (16 if on_loop.name == "uvloop" else 16384, 65536)
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        transport.set_write_buffer_limits(low=1000)
        assert transport.get_write_buffer_limits() == (1000, 4000)
        transport.set_write_buffer_limits(high=500, low=500)
        assert transport.get_write_buffer_limits() == (500, 500)
        transport.set_write_buffer_limits()
        assert transport.get_write_buffer_limits()[1] == 65536
        for wrong in ({"high": 10, "low": 11}, {"high": -1}, {"low": -1}):
            with pytest.raises(ValueError):
                transport.set_write_buffer_limits(**wrong)
        assert transport.get_write_buffer_size() == 0
        await recorder.end()
        peer.close()

    on_loop(main)


@FAMILIES
@pytest.mark.parametrize("limits", [{}, {"high": 0}, {"high": 200_000, "low": 1}])
def test_a_protocol_is_paused_and_resumed_once_each(on_loop: OnLoop, family: str, limits: dict[str, int]) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach_narrow(recorder, family)
        recorder.transport.set_write_buffer_limits(**limits)
        low, high = recorder.transport.get_write_buffer_limits()
        for _ in range(2):
            recorder.events.clear()
            written = await fill(recorder)
            assert recorder.events == ["paused"]
            recorder.transport.write(b"yet more")
            await turns()
            assert recorder.events == ["paused"]
            assert recorder.transport.get_write_buffer_size() > high
            await peer.read(written + 8)
            await recorder.until("resumed")
            assert recorder.events == ["paused", "resumed"]
            assert recorder.transport.get_write_buffer_size() <= low
        await recorder.end()
        peer.close()

    on_loop(main)


def test_a_lower_limit_pauses_at_once(on_epoll: OnLoop) -> None:
    """uvloop and asyncio look at the next write."""

    async def main() -> None:
        recorder = Recorder()
        peer = await attach_narrow(recorder)
        recorder.transport.set_write_buffer_limits(high=2 * MUCH)
        written = await fill(recorder)
        assert recorder.events == ["made"]
        recorder.transport.set_write_buffer_limits(high=100)
        assert recorder.events == ["made", "paused"]
        await peer.read(written)
        await recorder.until("resumed")
        await recorder.end()
        peer.close()

    on_epoll(main)


@FAMILIES
def test_a_protocol_is_resumed_before_all_is_sent(on_loop: OnLoop, family: str) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach_narrow(recorder, family)
        recorder.transport.set_write_buffer_limits(high=MUCH // 2, low=MUCH // 2)
        written = await fill(recorder)
        assert recorder.events == ["made", "paused"]
        read = 0
        while "resumed" not in recorder.events:
            read += len(await peer.read(1 << 14))
            await turns(2)
        assert recorder.transport.get_write_buffer_size() <= MUCH // 2
        if on_loop.name != "uvloop":
            # It counts a write as a whole as long as any byte of it is left.
            assert recorder.transport.get_write_buffer_size() > 0
        await peer.read(written - read)
        await recorder.end()
        peer.close()

    on_loop(main)


@FAMILIES
def test_hundreds_of_small_writes_behind_a_large_one(on_loop: OnLoop, family: str) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach_narrow(recorder, family)
        written = await fill(recorder)
        small = [b"%d," % number for number in range(1000)]
        for each in small:
            recorder.transport.write(each)
        assert await peer.read(written) == block(MUCH)
        assert await peer.read(len(b"".join(small))) == b"".join(small)
        await recorder.end()
        peer.close()

    on_loop(main)


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_a_failing_pause_does_not_cost_the_connection(on_loop: OnLoop, method: str) -> None:
    class Failing(Recorder):
        pass

    def fail(self: Failing) -> None:
        self.note(method)
        raise ArithmeticError("out of fingers")

    setattr(Failing, method, fail)

    async def main() -> None:
        failing = Failing()
        peer = await attach_narrow(failing)
        written = await fill(failing)
        await peer.read(written)
        await failing.until(method)
        await failing.end()
        assert failing.error is None
        peer.close()

    on_loop(main)
    assert isinstance(on_loop.take_error(), ArithmeticError)


@FAMILIES
@pytest.mark.parametrize("kept", [0, MUCH])
def test_close_flushes(on_loop: OnLoop, family: str, kept: int) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach_narrow(recorder, family)
        data = b"all of it" + block(kept)
        recorder.transport.write(data)
        recorder.transport.close()
        assert recorder.transport.is_closing()
        if kept:
            await turns()
            assert "lost" not in recorder.events
        assert await peer.read_to_end() == data
        await recorder.until("lost")
        assert recorder.error is None
        peer.close()

    on_loop(main)


@FAMILIES
def test_abort_drops(on_loop: OnLoop, family: str) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach_narrow(recorder, family)
        written = await fill(recorder)
        recorder.transport.abort()
        await recorder.until("lost")
        assert recorder.error is None
        assert recorder.transport.get_write_buffer_size() == 0
        received = await peer.read_to_end()
        assert len(received) < written
        assert received == block(MUCH)[: len(received)]
        peer.close()

    on_loop(main)


def test_abort_cuts_a_close_short(on_loop: OnLoop) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach_narrow(recorder)
        written = await fill(recorder)
        recorder.transport.close()
        await turns()
        assert "lost" not in recorder.events
        recorder.transport.abort()
        await recorder.until("lost")
        assert recorder.events.count("lost") == 1
        assert len(await peer.read_to_end()) < written
        peer.close()

    on_loop(main)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_writes_behind_the_end_go_nowhere(on_loop: OnLoop, end: str) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach(recorder)
        getattr(recorder.transport, end)()
        recorder.transport.write(b"into the void")
        recorder.transport.writelines([b"and", b"again"])
        await recorder.until("lost")
        await turns()
        if on_loop.name == "uvloop":
            # Its handle is gone by then.
            with pytest.raises(RuntimeError, match="closed"):
                recorder.transport.write(b"into the void")
        else:
            recorder.transport.write(b"into the void")
        assert await peer.read_to_end() == b""
        assert recorder.events == ["made", "lost"]
        peer.close()

    on_loop(main)


@FAMILIES
def test_a_peer_that_resets_while_bytes_wait_for_it(on_loop: OnLoop, family: str) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer: Peer = await attach_narrow(recorder, family)
        await fill(recorder)
        peer.reset()
        await recorder.until("lost")
        assert isinstance(recorder.error, ConnectionResetError | BrokenPipeError)
        assert recorder.events == ["made", "paused", "lost"]
        assert recorder.transport.get_write_buffer_size() == 0

    on_loop(main)
