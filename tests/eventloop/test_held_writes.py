"""Writes that are held until the end of the turn, over real transports: one that fails takes no other with it.

Our loop has an outbox of its own; on the others it is `lb.outbox`.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from lb.outbox import AnyOutbox, Outbox
from tests.eventloop.conformance import OnLoop, Recorder, attach


def outbox_of(loop: Any) -> AnyOutbox:
    outbox: AnyOutbox | None = getattr(loop, "outbox", None)
    return outbox or Outbox(loop.call_soon, time.monotonic)


@pytest.mark.parametrize("unlucky", [0, 1, 2])
def test_a_held_write_behind_our_fin_does_not_take_the_others_with_it(on_loop: OnLoop, unlucky: int) -> None:
    async def main() -> None:
        outbox = outbox_of(asyncio.get_running_loop())
        recorders = [Recorder() for _ in range(3)]
        peers = [await attach(recorder) for recorder in recorders]
        recorders[unlucky].transport.write_eof()
        for recorder in recorders:
            outbox.write(recorder.transport, b"hello")
        for number, peer in enumerate(peers):
            if number != unlucky:
                assert await peer.read(5) == b"hello"
        # They are not held up either.
        for number, (recorder, peer) in enumerate(zip(recorders, peers, strict=True)):
            if number != unlucky:
                outbox.write(recorder.transport, b"again")
                assert await peer.read(5) == b"again"
            await recorder.end()
            peer.close()

    on_loop(main)
    assert isinstance(on_loop.take_error(), RuntimeError)


def test_a_held_write_that_the_kernel_takes_in_parts(on_loop: OnLoop) -> None:
    """What is written behind it keeps its place, and so does the end."""

    async def main() -> None:
        outbox = outbox_of(asyncio.get_running_loop())
        recorder = Recorder()
        peer = await attach(recorder, buffers=4096)
        pieces = [bytes([number]) * 16384 for number in range(64)]
        for piece in pieces:
            outbox.write(recorder.transport, piece)
        outbox.close(recorder.transport)
        assert await peer.read_to_end() == b"".join(pieces)
        await recorder.until("lost")
        assert recorder.error is None
        peer.close()

    on_loop(main)
