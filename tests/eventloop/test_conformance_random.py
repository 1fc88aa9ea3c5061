"""Two ends that write, pause, resume and change their protocols at random: every byte arrives in order, then the FIN.

A seed gives the same choices again, not the same timing.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from tests.eventloop.conformance import OnLoop, Recorder, socket_pair

SIZES = [1, 10, 1_000, 16_384, 65_535, 65_536, 65_537, 262_144, 300_000]
"""Around those with which loops read and buffer."""
SEEDS = range(12)


class End(asyncio.Protocol):
    """One end: `step` does something at random; the rest writes down what comes."""

    def __init__(self, seed: int) -> None:
        self.recorder = Recorder(keep_open=True)
        self._random = random.Random(seed)
        self._to_write = [self._random.randbytes(self._random.choice(SIZES)) for _ in range(12)]
        self.to_receive = b"".join(self._to_write)
        """What the other end is to receive."""
        self._into = bytearray(self._random.choice(SIZES))
        self._plain: list[asyncio.BaseProtocol] = [self, IntoBuffer(self)]
        self._has_paused = False
        self._has_ended = False

    @property
    def is_done(self) -> bool:
        return self._has_ended and "eof" in self.recorder.events

    def step(self) -> None:
        """Do something."""
        transport, dice = self.recorder.transport, self._random.random()
        if dice < 0.3 and self._to_write:
            transport.write(self._to_write.pop(0))
        elif dice < 0.5:
            self._has_paused = True
            transport.pause_reading()
        elif dice < 0.8 and self._has_paused:
            self._has_paused = False
            transport.resume_reading()
        elif dice < 0.9:
            transport.set_protocol(self._random.choice(self._plain))
        elif not self._to_write and not self._has_ended:
            self._has_ended = True
            transport.write_eof()

    def _maybe_pause(self) -> None:
        """Pause in the middle of a read, where a loop may have more in its hands."""
        if self._random.random() < 0.3:
            self._has_paused = True
            self.recorder.transport.pause_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.recorder.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self.recorder.data_received(data)
        self._maybe_pause()

    def get_buffer(self) -> bytearray:
        return self._into

    def buffer_updated(self, count: int) -> None:
        self.data_received(bytes(self._into[:count]))

    def eof_received(self) -> bool:
        return self.recorder.eof_received()

    def pause_writing(self) -> None:
        pass

    def resume_writing(self) -> None:
        pass

    def connection_lost(self, exc: Exception | None) -> None:
        self.recorder.connection_lost(exc)


class IntoBuffer(asyncio.BufferedProtocol):
    """The same end, as a protocol with a buffer of its own."""

    def __init__(self, end: End) -> None:
        self._end = end
        self.buffer_updated = end.buffer_updated  # type: ignore[method-assign]
        self.eof_received = end.eof_received  # type: ignore[method-assign]
        self.connection_lost = end.connection_lost  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._end.get_buffer()


@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_byte_arrives_in_order_and_then_the_fin(on_loop: OnLoop, family: str, seed: int) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        ends = [End(2 * seed), End(2 * seed + 1)]
        pair = socket_pair(family, buffers=None if seed % 2 else 64 << 10)
        for end, sock in zip(ends, pair, strict=True):
            sock.setblocking(False)
            await loop.connect_accepted_socket(lambda end=end: end, sock)
        dice = random.Random(seed)
        while not all(end.is_done for end in ends):
            for end in ends:
                end.step()
            if dice.random() < 0.5:
                await asyncio.sleep(0)
        for end, other in zip(ends, reversed(ends), strict=True):
            assert end.recorder.received == other.to_receive
            assert end.recorder.events[-1] == "eof"
            assert end.recorder.error is None
        for end in ends:
            await end.recorder.end()
            assert end.recorder.error is None
            assert end.recorder.events.count("lost") == 1

    on_loop(main)
