"""A get_buffer that returns what can't be received into, on every loop: it costs its own connection, not the loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.eventloop.conformance import Echo, OnLoop, Recorder, attach


class BadlyBuffered(asyncio.BufferedProtocol):
    """Gives out the same thing every time."""

    def __init__(self, buffer: Any) -> None:
        self.recorder = Recorder()
        self._buffer = buffer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.recorder.connection_made(transport)

    def get_buffer(self, sizehint: int) -> Any:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        raise AssertionError("nothing can have been received")

    def connection_lost(self, exc: Exception | None) -> None:
        self.recorder.connection_lost(exc)


@pytest.mark.parametrize("buffer", [b"read-only", [1, 2], memoryview(b"read-only"), "text"])
def test_what_can_not_be_received_into_loses_the_connection(on_loop: OnLoop, buffer: Any) -> None:
    # uvloop tells of no detail.
    expected = RuntimeError if on_loop.name == "uvloop" else TypeError

    async def main() -> None:
        bad, good = BadlyBuffered(buffer), Echo()
        peer, good_peer = await attach(bad), await attach(good)
        await peer.send(b"hello")
        await good_peer.send(b"hello")
        await bad.recorder.until("lost")
        assert bad.recorder.events == ["made", "lost"]
        assert isinstance(bad.recorder.error, expected)
        assert await good_peer.read(5) == b"hello"
        await good.end()
        good_peer.close()
        peer.close()

    on_loop(main)
    assert isinstance(on_loop.take_error(), expected)
