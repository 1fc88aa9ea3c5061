"""Tunnels on made-up transports: who is held, who is waited for, and how long."""

from __future__ import annotations

import gc

import pytest

from lb.tunnel import Side, Tunnel
from tests.tunnel_fakes import BODY_IDLE, IDLE, Pair

first = pytest.mark.parametrize("first", ["client", "endpoint"])


def test_what_is_early_goes_first() -> None:
    pair = Pair(to_client=b"hello", to_endpoint=b"early", client_fin=True)
    pair.endpoint.says(b"more")
    pair.loop.end_turn()
    assert pair.client.sent == b"hellomore"
    assert pair.endpoint.events == ["early", "FIN"]
    pair.endpoint.ends()
    pair.loop.end_turn()
    assert pair.reason == "ok"


@first
def test_who_is_full_holds_the_other(first: str) -> None:
    """And nobody else, until it takes bytes again."""
    pair = Pair()
    one, other = pair.sides(first)
    one.protocol.pause_writing()
    assert (one.is_paused, other.is_paused) == (False, True)
    one.protocol.resume_writing()
    assert (one.is_paused, other.is_paused) == (False, False)


@first
def test_a_reset_of_who_is_full(first: str) -> None:
    pair = Pair()
    one, other = pair.sides(first)
    one.protocol.pause_writing()
    one.buffered = 70000
    one.breaks()
    pair.loop.end_turn()
    assert other.events == ["reset"]
    assert pair.reason == ("client_gone" if first == "client" else "reset_in_body")


@first
def test_a_cut_resets_who_has_not_taken_all_that_was_complete(first: str) -> None:
    """Its FIN is still behind bytes that are dropped with the buffer."""
    pair = Pair()
    one, other = pair.sides(first)
    one.says(b"all")
    one.ends()
    other.buffered = 3
    pair.cut()
    assert other.events == ["all", "FIN", "reset"]
    assert pair.reason == "drain_cut"


@first
def test_both_fins_and_a_reader_that_stands_still(first: str) -> None:
    """Now it is a body's time that counts."""
    pair = Pair()
    one, other = pair.sides(first)
    other.buffered = 3
    one.ends()
    other.ends()
    pair.loop.end_turn()
    assert pair.reason is None
    pair.pass_time(BODY_IDLE - 1)
    assert pair.reason is None
    for _ in range(8):
        pair.pass_time(BODY_IDLE / 4 + 0.1)
    assert other.events[-1] == "reset"
    assert pair.reason == "tunnel_idle"


@first
def test_both_fins_and_a_reader_that_goes_on(first: str) -> None:
    pair = Pair()
    one, other = pair.sides(first)
    other.buffered = 1000
    one.ends()
    other.ends()
    pair.loop.end_turn()
    for _ in range(50):
        pair.pass_time(BODY_IDLE / 2)
        other.buffered -= 10
        assert pair.reason is None
    other.takes_all()
    pair.loop.end_turn()
    assert pair.reason == "ok"


@first
def test_a_byte_keeps_it(first: str) -> None:
    pair = Pair()
    one, _ = pair.sides(first)
    for _ in range(3):
        pair.pass_time(IDLE - 1)
        one.says(b"x")
        assert pair.reason is None
    pair.pass_time(IDLE + 0.2)
    assert pair.reason == "tunnel_idle"


@first
def test_a_byte_for_a_reader_that_stands_still_keeps_it_too(first: str) -> None:
    """What the reader had taken before is not known."""
    pair = Pair()
    one, other = pair.sides(first)
    other.buffered = 1000
    pair.pass_time(IDLE + 1)
    for _ in range(3):
        pair.pass_time(IDLE / 4 + 0.1)
    one.says(b"x")
    pair.pass_time(IDLE + 1)
    assert pair.reason is None


@first
def test_a_slow_reader_is_not_idle(first: str) -> None:
    pair = Pair()
    one, other = pair.sides(first)
    one.says(b"x")
    other.buffered = 1000
    for _ in range(50):
        pair.pass_time(IDLE / 2)
        other.buffered -= 10
        assert pair.reason is None
    for _ in range(8):
        pair.pass_time(IDLE / 4 + 0.1)
    assert pair.reason == "tunnel_idle"
    assert one.events == ["reset"]


@first
def test_who_was_given_all_and_still_takes_it_is_not_closed(first: str) -> None:
    """The one that sent it is gone; what is sent to it goes nowhere, and holds nobody."""
    pair = Pair()
    one, other = pair.sides(first)
    one.says(b"all")
    one.ends()
    one.protocol.pause_writing()
    other.buffered = 3
    one.breaks()
    pair.loop.end_turn()
    assert not other.is_paused, "its bytes would make a reset of its end"
    other.says(b"QUIT")
    pair.loop.end_turn()
    assert other.events == ["all", "FIN"]
    assert one.sent == b""
    other.buffered = 0
    pair.pass_time(BODY_IDLE / 4 + 0.2)
    assert other.events == ["all", "FIN", "close"]
    assert pair.reason == ("client_gone" if first == "client" else "reset_in_body")


@first
def test_who_was_given_all_and_says_goodbye(first: str) -> None:
    pair = Pair()
    one, other = pair.sides(first)
    one.ends()
    other.buffered = 3
    one.breaks()
    pair.loop.end_turn()
    other.ends()
    assert other.events == ["FIN", "close"]
    other.takes_all()
    pair.loop.end_turn()
    assert pair.reason == ("client_gone" if first == "client" else "reset_in_body")


@first
def test_who_was_given_all_and_stands_still(first: str) -> None:
    """However much it says meanwhile."""
    pair = Pair()
    one, other = pair.sides(first)
    one.ends()
    other.buffered = 3
    one.breaks()
    pair.loop.end_turn()
    for _ in range(8):
        other.says(b"x")
        pair.pass_time(BODY_IDLE / 4 + 0.1)
    assert other.events == ["FIN", "reset"]
    assert pair.reason is not None


@pytest.mark.parametrize("end", ["fins", "reset", "cut"])
def test_nothing_of_it_waits_for_the_garbage_collector(end: str) -> None:
    def there() -> int:
        return sum(isinstance(thing, Tunnel | Side) for thing in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = there()
        pair = Pair()
        assert there() == before + 3
        pair.client.says(b"x")
        if end == "fins":
            pair.client.ends()
            pair.endpoint.ends()
        elif end == "reset":
            pair.client.breaks()
        else:
            pair.cut()
        pair.loop.end_turn()
        assert there() == before
    finally:
        gc.enable()
