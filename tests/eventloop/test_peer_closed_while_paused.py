"""`peer_closed_while_paused` is ours: one that fails costs one connection, and no other name is taken for it."""

from __future__ import annotations

from tests.eventloop.conformance import OnLoop, Recorder, turns
from tests.eventloop.test_conformance_paused import Watchful, attach_paused


def test_one_that_fails_loses_the_connection_with_its_error(on_epoll: OnLoop) -> None:
    class Failing(Watchful):
        def peer_closed_while_paused(self) -> None:
            super().peer_closed_while_paused()
            raise ArithmeticError("out of fingers")

    async def main() -> None:
        failing = Failing()
        peer = await attach_paused(failing)
        peer.fin()
        await failing.until("lost")
        assert isinstance(failing.error, ArithmeticError)
        peer.close()

    on_epoll(main)
    assert isinstance(on_epoll.take_error(), ArithmeticError)


def test_a_protocol_whose_flag_is_called_peer_closed(on_loop: OnLoop) -> None:
    """A common name for a flag: a FIN while reading is paused must not call it."""

    class Flagged(Recorder):
        peer_closed = False

        def eof_received(self) -> bool:
            self.peer_closed = True
            return super().eof_received()

    async def main() -> None:
        flagged = Flagged()
        peer = await attach_paused(flagged)
        await peer.send(b"last words")
        peer.fin()
        await turns()
        assert flagged.events == ["made"]
        flagged.transport.resume_reading()
        await flagged.until("lost")
        assert flagged.received == b"last words"
        assert flagged.events == ["made", "data", "eof", "lost"]
        assert flagged.peer_closed
        assert flagged.error is None
        peer.close()

    on_loop(main)
