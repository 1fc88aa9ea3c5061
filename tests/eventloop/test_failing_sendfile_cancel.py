"""A sendfile that is cancelled while it waits leaves a transport that works."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.eventloop.conformance import OnLoop, Recorder, attach, block, turns


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
