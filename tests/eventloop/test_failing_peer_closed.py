"""A peer_closed_while_paused that fails costs one connection, not the loop."""

from __future__ import annotations

from tests.eventloop.conformance import OnLoop
from tests.eventloop.test_conformance_paused import Watchful, attach_paused


def test_a_failing_peer_closed_loses_the_connection_with_its_error(on_epoll: OnLoop) -> None:
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
