"""A sendfile that is cancelled, or whose transport ends, leaves a loop and a transport that work."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.eventloop.conformance import Echo, OnLoop, Recorder, attach, attach_at, block, turns


def test_a_file_that_is_given_up_before_its_turn(on_epoll: OnLoop, tmp_path: Path) -> None:
    """asyncio's transport is of no use after that either."""
    (tmp_path / "file").write_bytes(b"x" * 1000)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        recorder = Recorder()
        peer = await attach(recorder, buffers=64 << 10)
        data = block(1 << 20)
        recorder.transport.write(data)
        with (tmp_path / "file").open("rb") as file:
            sending = asyncio.create_task(loop.sendfile(recorder.transport, file))
            await turns()
            assert not sending.done()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert await peer.read(len(data)) == data
        recorder.transport.write(b"on")
        assert await peer.read(2) == b"on"
        await peer.send(b"x")
        await recorder.until("data")
        await recorder.end()
        peer.close()

    on_epoll(main)


@pytest.mark.parametrize("end", ["abort", "close"])
def test_a_transport_that_is_ended_in_the_middle_of_a_file(on_epoll: OnLoop, tmp_path: Path, end: str) -> None:
    """The sending ends, and its descriptor's number can be used again. asyncio's never ends."""
    data = block(1 << 20)
    (tmp_path / "file").write_bytes(data)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        recorder = Recorder()
        peer = await attach(recorder, buffers=64 << 10)
        number = recorder.transport.get_extra_info("socket").fileno()
        with (tmp_path / "file").open("rb") as file:
            sending = asyncio.create_task(loop.sendfile(recorder.transport, file))
            await turns()
            assert not sending.done()
            getattr(recorder.transport, end)()
            await recorder.until("lost")
            with pytest.raises(OSError):
                await sending
        assert recorder.error is None
        received = await peer.read_to_end()
        assert received == data[: len(received)]
        assert 0 < len(received) < len(data)
        echo = Echo()
        next_peer = await attach_at(number, echo)
        await next_peer.send(b"hello")
        assert await next_peer.read(5) == b"hello"
        await echo.end()
        next_peer.close()
        peer.close()

    on_epoll(main)
