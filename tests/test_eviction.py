"""Who goes when there is no room: the order, what happened since the look, and how seldom one is taken."""

from __future__ import annotations

import pytest

from lb import eviction
from lb.eviction import LOOK_AGAIN_SECONDS, Evictor, Rank

NOW = 100.0


class Connection:
    """Closes as a client connection does: it leaves the others at once."""

    def __init__(self, house: House, rank: Rank | None) -> None:
        self._house = house
        self.rank = rank
        self.was_evicted = False
        self.is_used_again = False
        """Only a close look shows it."""

    def eviction_rank(self, *, closely: bool = False) -> Rank | None:
        return None if closely and self.is_used_again else self.rank

    def evict(self) -> None:
        assert not self.was_evicted
        self.was_evicted = True
        self._house.connections.remove(self)


class House:
    """Connections, and an evictor that makes room among them."""

    def __init__(self, *ranks: Rank | None) -> None:
        self.connections = [Connection(self, rank) for rank in ranks]
        self.looks = 0
        self.evictor = Evictor(self._look)

    def _look(self) -> list[Connection]:
        self.looks += 1
        return list(self.connections)

    def add(self, rank: Rank | None) -> Connection:
        connection = Connection(self, rank)
        self.connections.append(connection)
        return connection

    def make_room(self, now: float = NOW) -> Rank | None:
        """Return the rank of the one that went; None if nobody did."""
        before = list(self.connections)
        made = self.evictor.make_room(now)
        gone = [connection for connection in before if connection.was_evicted]
        assert len(gone) == int(made)
        return gone[0].rank if gone else None


def test_the_lowest_goes_first_one_at_a_time() -> None:
    house = House((1, 5.0), (0, 9.0), (2, 1.0), None, (0, 3.0), (1, 2.0))
    assert [house.make_room() for _ in range(6)] == [(0, 3.0), (0, 9.0), (1, 2.0), (1, 5.0), (2, 1.0), None]
    assert [connection.rank for connection in house.connections] == [None], "one that is in use stays"


def test_two_of_the_same_rank_both_go() -> None:
    house = House((0, 1.0), (0, 1.0))
    assert [house.make_room(), house.make_room(), house.make_room()] == [(0, 1.0), (0, 1.0), None]


@pytest.mark.parametrize("rank", [None, (0, 7.0), (1, 3.0)])
def test_one_that_did_something_since_the_look_is_not_cut(rank: Rank | None) -> None:
    """It serves an exchange again, or has done so and idles anew, or has begun a head."""
    house = House((0, 1.0), (0, 2.0), (0, 3.0))
    assert house.make_room() == (0, 1.0)
    used = house.connections[0]
    used.rank = rank
    assert house.make_room() == (0, 3.0)
    assert not used.was_evicted


def test_one_that_is_used_again_as_a_close_look_shows() -> None:
    house = House((0, 1.0), (0, 2.0))
    for connection in house.connections:
        connection.is_used_again = True
    assert house.make_room(NOW) is None
    assert house.make_room(NOW) is None
    assert house.looks == 1
    house.connections[1].is_used_again = False
    assert house.make_room(NOW + LOOK_AGAIN_SECONDS) == (0, 2.0)


def test_one_that_was_passed_over_is_found_by_the_next_look() -> None:
    house = House((0, 1.0), (0, 2.0))
    assert house.make_room() == (0, 1.0)
    house.connections[0].rank = (0, 9.0)
    assert house.make_room() == (0, 9.0)
    assert house.looks == 2


def test_one_that_is_closed_since_the_look_makes_no_room() -> None:
    house = House((0, 1.0), (0, 2.0), (0, 3.0))
    assert house.make_room() == (0, 1.0)
    closed = house.connections.pop(0)
    closed.rank = (2, float("inf"))
    assert house.make_room() == (0, 3.0)
    assert not closed.was_evicted


def test_a_look_finds_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eviction, "_FOUND_AT_ONCE", 3)
    house = House(*[(0, float(n)) for n in (4, 2, 6, 1, 5, 3)])
    assert [house.make_room() for _ in range(6)] == [(0, float(n)) for n in range(1, 7)]
    assert house.looks == 2


def test_one_look_at_ten_thousand_serves_more_than_a_hundred() -> None:
    """A look at so many costs milliseconds, which are not spent for each client."""
    house = House(*[(1, float(n)) for n in range(10_000)])
    assert [house.make_room() for _ in range(200)] == [(1, float(n)) for n in range(200)]
    assert house.looks == 1


def test_one_that_idles_since_after_the_look_waits_for_the_next() -> None:
    """It costs the order a little, between two looks; nobody in use is cut by it."""
    house = House((0, 1.0), (1, 2.0), (1, 3.0))
    assert house.make_room() == (0, 1.0)
    house.add((0, 9.0))
    assert house.make_room() == (1, 2.0)
    assert house.make_room() == (1, 3.0)
    assert house.make_room() == (0, 9.0)


def test_while_all_are_in_use_nobody_is_looked_for_again_at_once() -> None:
    house = House(None, None)
    assert house.make_room(NOW) is None
    assert house.looks == 1
    house.connections[0].rank = (0, 1.0)
    assert house.make_room(NOW + LOOK_AGAIN_SECONDS / 2) is None
    assert house.looks == 1
    assert house.make_room(NOW + LOOK_AGAIN_SECONDS) == (0, 1.0)
    assert house.looks == 2


def test_those_who_idle_by_now_go_before_those_found_in_a_head() -> None:
    house = House((1, 1.0), (1, 2.0), (1, 3.0))
    assert house.make_room(NOW) == (1, 1.0)
    house.add((0, 9.0))
    assert house.make_room(NOW + LOOK_AGAIN_SECONDS) == (0, 9.0)


def test_a_look_at_many_that_made_little_room_is_not_repeated_at_once() -> None:
    """With nearly all in use each new client would cost a look at all of them."""
    house = House(*[None] * 9_999, (0, 1.0))
    assert house.make_room(NOW) == (0, 1.0)
    house.connections[0].rank = (0, 2.0)
    assert house.make_room(NOW + LOOK_AGAIN_SECONDS / 2) is None
    assert house.looks == 1
    assert house.make_room(NOW + LOOK_AGAIN_SECONDS) == (0, 2.0)


def test_a_look_at_few_is_repeated_at_once() -> None:
    house = House(*[None] * 99, (0, 1.0))
    for n in range(1, 6):
        assert house.make_room(NOW) == (0, float(n))
        house.add((0, n + 1.0))
    assert house.looks == 5


def test_without_connections_there_is_no_room_to_make() -> None:
    assert House().make_room() is None
