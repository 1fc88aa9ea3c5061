"""Writes that wait for the end of the loop's turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from lb.eventloop.held import HeldWrites
from lb.outbox import AnyOutbox, Outbox

HELD_BYTES = 33792


class Loop:
    """Calls at the end of the turn what it was asked to call."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.at_end: Callable[[], None] = lambda: None

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def end_turn(self) -> None:
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()
        self.at_end()


class Transport:
    """Notes what reaches it."""

    def __init__(self, log: list[tuple[str, bytes]] | None = None, name: str = "") -> None:
        self.sent: list[bytes] = []
        self.closing = False
        self.closes = 0
        self._log = log
        self._name = name

    def write(self, data: bytes) -> None:
        self.sent.append(data)
        if self._log is not None:
            self._log.append((self._name, data))

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True
        self.closes += 1


NewOutbox = Callable[[], tuple[AnyOutbox, Loop]]


def _fail(context: dict[str, Any]) -> None:
    raise AssertionError(context)


def general_outbox() -> tuple[AnyOutbox, Loop]:
    loop = Loop()
    return Outbox(loop.call_soon, time.monotonic), loop


def our_loops_outbox() -> tuple[AnyOutbox, Loop]:
    loop = Loop()
    held = HeldWrites(_fail)
    loop.at_end = held.flush
    return held, loop


@pytest.fixture(params=[general_outbox, our_loops_outbox])
def new_outbox(request: pytest.FixtureRequest) -> NewOutbox:
    """Makes the outbox for any loop, and that of our own."""
    make: NewOutbox = request.param
    return make


def test_a_write_waits_for_the_end_of_the_turn(new_outbox: NewOutbox) -> None:
    outbox, loop = new_outbox()
    transport = Transport()
    outbox.write(transport, b"a")
    assert transport.sent == []
    loop.end_turn()
    assert transport.sent == [b"a"]


def test_the_loop_is_asked_once_a_turn() -> None:
    outbox, loop = general_outbox()
    for _ in range(2):
        for _ in range(3):
            outbox.write(Transport(), b"a")
        assert len(loop.soon) == 1
        loop.end_turn()
    assert loop.soon == []


def test_the_order_of_all_writes_is_kept(new_outbox: NewOutbox) -> None:
    outbox, loop = new_outbox()
    log: list[tuple[str, bytes]] = []
    first, second = Transport(log, "first"), Transport(log, "second")
    outbox.write(first, b"1")
    outbox.write(second, b"2")
    outbox.write(first, b"3")
    loop.end_turn()
    assert log == [("first", b"1"), ("second", b"2"), ("first", b"3")]


def test_it_can_be_flushed_before(new_outbox: NewOutbox) -> None:
    outbox, loop = new_outbox()
    transport = Transport()
    outbox.write(transport, b"a")
    outbox.flush()
    assert transport.sent == [b"a"]
    loop.end_turn()
    outbox.flush()
    assert transport.sent == [b"a"]


def test_a_large_piece_goes_out_at_once_behind_what_was_held(new_outbox: NewOutbox) -> None:
    outbox, loop = new_outbox()
    transport, other = Transport(), Transport()
    outbox.write(other, b"o")
    outbox.write(transport, b"a")
    large = b"b" * (HELD_BYTES + 1)
    outbox.write(transport, large)
    assert transport.sent == [b"a", large]
    outbox.write(transport, b"c")
    assert transport.sent == [b"a", large]
    loop.end_turn()
    assert transport.sent == [b"a", large, b"c"]
    assert other.sent == [b"o"]


def test_a_piece_of_just_the_limit_is_held(new_outbox: NewOutbox) -> None:
    outbox, loop = new_outbox()
    transport = Transport()
    outbox.write(transport, b"a" * HELD_BYTES)
    assert transport.sent == []
    loop.end_turn()
    assert transport.sent == [b"a" * HELD_BYTES]


def test_what_is_written_during_a_flush_is_not_lost(new_outbox: NewOutbox) -> None:
    outbox, loop = new_outbox()

    class Answering(Transport):
        def write(self, data: bytes) -> None:
            super().write(data)
            if data == b"a":
                outbox.write(self, b"b")

    transport = Answering()
    outbox.write(transport, b"a")
    loop.end_turn()
    loop.end_turn()
    assert transport.sent == [b"a", b"b"]


class TestClosing:
    def test_it_is_closed_behind_what_was_written(self, new_outbox: NewOutbox) -> None:
        outbox, loop = new_outbox()
        transport = Transport()
        outbox.write(transport, b"a")
        outbox.close(transport)
        assert transport.closes == 0
        loop.end_turn()
        assert (transport.sent, transport.closes) == ([b"a"], 1)

    def test_if_nothing_is_held_at_once(self, new_outbox: NewOutbox) -> None:
        outbox, _ = new_outbox()
        transport = Transport()
        outbox.close(transport)
        assert transport.closes == 1

    def test_it_waits_for_its_turn_behind_others(self, new_outbox: NewOutbox) -> None:
        outbox, loop = new_outbox()
        transport = Transport()
        outbox.write(Transport(), b"a")
        outbox.close(transport)
        loop.end_turn()
        assert transport.closes == 1

    def test_one_that_is_closing_gets_nothing_more(self, new_outbox: NewOutbox) -> None:
        outbox, loop = new_outbox()
        transport, other = Transport(), Transport()
        outbox.write(transport, b"a")
        outbox.write(other, b"o")
        outbox.close(transport)
        transport.closing = True
        loop.end_turn()
        outbox.write(transport, b"b" * (HELD_BYTES + 1))
        assert (transport.sent, transport.closes) == ([], 0)
        assert other.sent == [b"o"]


def test_what_is_held_as_it_is_keeps_its_place(new_outbox: NewOutbox) -> None:
    outbox, loop = new_outbox()
    transport = Transport()
    outbox.write(transport, b"a")
    outbox.hold((transport, b"b", None))
    outbox.write(transport, b"c")
    loop.end_turn()
    assert transport.sent == [b"a", b"b", b"c"]


def test_a_close_is_not_forgotten_when_the_last_write_fails() -> None:
    outbox, loop = general_outbox()

    class Failing(Transport):
        def write(self, data: bytes) -> None:
            raise RuntimeError("it takes no writes")

    transport = Transport()
    outbox.write(transport, b"a")
    outbox.write(Failing(), b"b")
    outbox.close(transport)
    with pytest.raises(RuntimeError):
        loop.end_turn()
    loop.end_turn()
    assert (transport.sent, transport.closes) == ([b"a"], 1)
