"""A target that can't be written to any more must not end the loop of the source."""

from __future__ import annotations

import pytest

from tests.eventloop.conformance import OnLoop, turns
from tests.eventloop.splicing import in_pipe, new_way


@pytest.mark.parametrize("why", ["write_eof", "sendfile"])
def test_a_target_that_takes_no_writes(on_epoll: OnLoop, why: str) -> None:
    """As a write in data_received does it: the source is lost with the error of the write, and the loop goes on."""

    async def main() -> None:
        way = await new_way()
        way.splice(1 << 20)
        if why == "write_eof":
            way.target.transport.write_eof()
        else:
            way.target.transport._make_empty_waiter()
        await way.sender.send(b"data")
        await way.source.until("lost")
        assert isinstance(way.source.error, RuntimeError)
        assert isinstance(on_epoll.take_error(), RuntimeError)
        assert in_pipe() == 0
        await turns()
        assert "lost" not in way.target.events
        way.target.transport.abort()
        await way.end()

    on_epoll(main)
