"""Tunnels on made-up transports: every order of bytes, FINs, resets, silence and the end of a drain."""

from __future__ import annotations

import gc
import itertools
from typing import Any

import pytest

from lb.exchange import Exchange
from lb.flow import Flow
from lb.http1.forwarding import Request
from lb.http1.framing import NO_BODY, Framing
from lb.http1.message import RequestHead
from lb.metrics import CONNECTIONS_OPEN
from lb.tunnel import Side, Tunnel
from tests.tunnel_fakes import Loop, Transport, make_proxy

IDLE, BODY_IDLE = 100.0, 10.0
REQUEST = Request(RequestHead(b"", b"", 1, [], []), Framing(NO_BODY), b"")


class Pair:
    """A tunnel between two made-up transports."""

    def __init__(self, **early: Any) -> None:
        self.loop = Loop()
        self.proxy, self.ended = make_proxy(self.loop, tunnel_idle_timeout=IDLE, body_idle_timeout=BODY_IDLE)
        self.proxy.counters[CONNECTIONS_OPEN] += 1
        self.client, self.endpoint = Transport(self.loop), Transport(self.loop)
        self.flows = Flow(), Flow()
        exchange = Exchange(REQUEST, self.loop.now, True)
        tunnel = Tunnel(
            self.proxy,
            exchange,
            (self.client, self.flows[0]),  # type: ignore[arg-type]
            (self.endpoint, self.flows[1]),  # type: ignore[arg-type]
        )
        tunnel.start(**early)

    def sides(self, first: str) -> tuple[Transport, Transport]:
        """Return the side that acts, and the other."""
        return (self.client, self.endpoint) if first == "client" else (self.endpoint, self.client)

    def pass_time(self, seconds: float) -> None:
        self.loop.now += seconds
        self.proxy.deadlines.expire(self.loop.now)
        self.loop.end_turn()

    def cut(self) -> None:
        """The time of a drain is over."""
        for connection in list(self.proxy.connections):
            connection.abort()
        self.loop.end_turn()

    @property
    def reason(self) -> str | None:
        """Why it ended; None if it goes on. It ends once, and nothing of it is kept."""
        if not self.ended:
            assert len(self.proxy.connections) == 1
            return None
        (exchange,) = self.ended
        assert not self.proxy.connections
        assert self.proxy.deadlines.next_tick() == float("inf")
        assert self.proxy.counters[CONNECTIONS_OPEN] == 0
        return str(exchange.end_reason)


first = pytest.mark.parametrize("first", ["client", "endpoint"])

EVENTS = ["c x", "e y", "c FIN", "e FIN", "c reset", "e reset", "idle", "cut"]


class Story:
    """Plays events, and knows what each side must have been given of them."""

    def __init__(self) -> None:
        self.pair = Pair()
        self.said = {"c": "", "e": ""}
        self.fins: set[str] = set()
        self.cause: str | None = None
        """What ended it."""
        self.broken = ""

    def may_happen(self, event: str) -> bool:
        """Says who? Nobody speaks behind its FIN, and nothing comes behind the end."""
        who, _, what = event.partition(" ")
        return self.cause is None and not (who in self.fins and what != "reset")

    def play(self, event: str) -> None:
        pair = self.pair
        who, _, what = event.partition(" ")
        transport = {"c": pair.client, "e": pair.endpoint}.get(who)
        if transport is None:
            self.cause = {"idle": "tunnel_idle", "cut": "drain_cut"}[who]
            if who == "idle":
                pair.pass_time(IDLE + 1)
            else:
                pair.cut()
        elif what == "FIN":
            transport.ends()
            self.fins.add(who)
            if len(self.fins) == 2:
                self.cause = "ok"
        elif what == "reset":
            transport.breaks()
            self.broken = who
            self.cause = {"c": "client_gone", "e": "reset_in_body"}[who]
        else:
            transport.says(what.encode())
            self.said[who] += what

    def check(self) -> None:
        pair = self.pair
        assert pair.reason == self.cause
        for name, other, transport in (("c", "e", pair.client), ("e", "c", pair.endpoint)):
            expected = list(self.said[other])
            if other in self.fins and self.cause != "ok":
                expected.append("FIN")
            if self.cause == "ok":
                # The first FIN was passed on as such, the second by closing.
                assert [event for event in transport.events if event != "FIN"] == [*expected, "close"]
                continue
            if self.cause is not None and name != self.broken:
                expected.append("close" if other in self.fins else "reset")
            assert transport.events == expected


def stories(length: int) -> list[tuple[str, ...]]:
    return list(itertools.product(EVENTS, repeat=length))


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_every_order_of_events(length: int) -> None:
    """Each event in a turn of its own: who has got all ends in order, everybody else sees a reset."""
    played = 0
    for events in stories(length):
        story = Story()
        for event in events:
            if not story.may_happen(event):
                break
            story.play(event)
            story.pair.loop.end_turn()
        else:
            played += 1
            story.check()
    assert played > len(EVENTS) / 2


@pytest.mark.parametrize("length", [2, 3, 4])
def test_every_order_of_events_in_one_turn(length: int) -> None:
    """A good end is never one of which something is missing, and no end is forgotten."""
    for events in stories(length):
        story = Story()
        for event in events:
            if story.may_happen(event):
                story.play(event)
        story.pair.loop.end_turn()
        pair = story.pair
        assert pair.reason == story.cause, events
        for other, transport in (("e", pair.client), ("c", pair.endpoint)):
            if transport.events[-1:] == ["close"] or "FIN" in transport.events:
                assert other in story.fins, events
                assert transport.sent.decode() == story.said[other], events


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
