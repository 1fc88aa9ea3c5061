"""A protocol that ends the connection when it is resumed: what it wrote just before is sent."""

from __future__ import annotations

import pytest

from tests.eventloop.conformance import OnLoop, Recorder, attach, block


@pytest.mark.parametrize("last", ["close", "write_eof"])
def test_a_protocol_that_writes_and_ends_when_it_is_resumed(on_loop: OnLoop, last: str) -> None:
    class Source(Recorder):
        left = 10

        def more(self) -> None:
            while self.left and self.events[-1] != "paused":
                self.left -= 1
                self.transport.write(block(1 << 18))
            if not self.left:
                getattr(self.transport, last)()

        def resume_writing(self) -> None:
            super().resume_writing()
            self.more()

    async def main() -> None:
        source = Source()
        peer = await attach(source, buffers=64 << 10)
        source.more()
        assert await peer.read_to_end() == block(1 << 18) * 10
        peer.fin()
        await source.until("lost")
        assert source.events.count("paused") > 1
        peer.close()

    on_loop(main)
