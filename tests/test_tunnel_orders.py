"""Every order of bytes, FINs, resets, silence and the end of a drain, in turns of their own and in one."""

from __future__ import annotations

import itertools

import pytest

from tests.tunnel_fakes import IDLE, Pair

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
