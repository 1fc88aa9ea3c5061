"""Lazy deadlines on a made-up clock."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lb.deadline import NEVER, Deadlines

RESOLUTION = 0.1


class Timed:
    """Stands in for a connection: has a deadline, and notes when it was told."""

    def __init__(self, deadline: float, then: Callable[[Timed], None] | None = None) -> None:
        self.deadline = deadline
        self.filed = NEVER
        self.told: list[float] = []
        self._then = then

    def deadline_passed(self, now: float) -> None:
        self.told.append(now)
        self.deadline = NEVER
        if self._then is not None:
            self._then(self)


def filed(*timed: Timed) -> Deadlines:
    deadlines = Deadlines(RESOLUTION)
    for one in timed:
        deadlines.file(one)
    return deadlines


def test_without_deadlines_there_is_nothing_to_do() -> None:
    deadlines = Deadlines()
    assert deadlines.next_tick() == NEVER
    assert deadlines.expire(1e9) == 0


def test_it_is_told_once_when_its_deadline_has_passed() -> None:
    timed = Timed(5.0)
    deadlines = filed(timed)
    assert deadlines.expire(4.9) == 0
    assert timed.told == []
    assert deadlines.expire(5.15) == 1
    assert timed.told == [5.15]
    assert deadlines.expire(10.0) == 0
    assert timed.told == [5.15]
    assert timed.filed == NEVER
    assert deadlines.next_tick() == NEVER


@pytest.mark.parametrize("number", range(60))
def test_it_is_told_up_to_one_tick_late_and_never_early(number: int) -> None:
    timed = Timed(number * 0.05)
    deadlines = filed(timed)
    tick = deadlines.next_tick()
    assert timed.deadline <= tick <= timed.deadline + RESOLUTION + 1e-9
    # Nothing is due before the tick, and the tick itself suffices.
    assert deadlines.expire(tick - 0.001) == 0
    assert deadlines.expire(tick) == 1


def test_the_resolution_is_a_tenth_of_a_second_unless_another_is_asked_for() -> None:
    for deadlines, tick in ((Deadlines(), 5.1), (Deadlines(2.0), 6.0)):
        deadlines.file(Timed(5.05))
        assert deadlines.next_tick() == pytest.approx(tick)


def test_those_of_one_tick_are_told_together() -> None:
    both = [Timed(5.01), Timed(5.02)]
    deadlines = filed(*both)
    assert deadlines.expire(deadlines.next_tick()) == 2
    assert all(timed.told for timed in both)


def test_the_next_tick_is_the_soonest() -> None:
    deadlines = filed(Timed(9.0), Timed(3.0), Timed(6.0))
    assert deadlines.next_tick() == pytest.approx(3.1)
    deadlines.expire(deadlines.next_tick())
    assert deadlines.next_tick() == pytest.approx(6.1)


def test_several_ticks_are_told_in_their_order() -> None:
    order: list[float] = []
    timed = [Timed(at, then=lambda one, at=at: order.append(at)) for at in (3.0, 1.0, 2.0)]  # type: ignore[misc]
    assert filed(*timed).expire(10.0) == 3
    assert order == [1.0, 2.0, 3.0]


def test_never_is_not_filed() -> None:
    timed = Timed(NEVER)
    assert filed(timed).next_tick() == NEVER
    assert timed.filed == NEVER


class TestMovedMeanwhile:
    def test_one_that_moved_on_is_filed_anew_and_not_told(self) -> None:
        timed = Timed(5.0)
        deadlines = filed(timed)
        timed.deadline = 60.0
        assert deadlines.expire(5.2) == 0
        assert timed.told == []
        assert deadlines.next_tick() == pytest.approx(60.1)
        assert deadlines.expire(deadlines.next_tick()) == 1

    def test_a_later_deadline_needs_no_filing(self) -> None:
        timed = Timed(5.0)
        deadlines = filed(timed)
        timed.deadline = 60.0
        deadlines.file(timed)
        assert deadlines.next_tick() == pytest.approx(5.1)

    def test_a_sooner_deadline_is_filed_sooner_and_once(self) -> None:
        timed = Timed(60.0)
        deadlines = filed(timed)
        timed.deadline = 5.0
        deadlines.file(timed)
        assert deadlines.next_tick() == pytest.approx(5.1)
        assert deadlines.expire(deadlines.next_tick()) == 1
        assert deadlines.next_tick() == NEVER
        assert deadlines.expire(100.0) == 0

    def test_one_that_no_longer_has_a_deadline_is_let_go(self) -> None:
        timed = Timed(5.0)
        deadlines = filed(timed)
        timed.deadline = NEVER
        assert deadlines.expire(6.0) == 0
        assert timed.told == []
        assert timed.filed == NEVER
        assert deadlines.next_tick() == NEVER
        # It can be filed again.
        timed.deadline = 7.0
        deadlines.file(timed)
        assert deadlines.expire(8.0) == 1

    def test_one_that_moves_with_every_message_is_looked_at_rarely(self) -> None:
        timed = Timed(60.0)
        deadlines = filed(timed)
        looks = 0
        for second in range(600):
            timed.deadline = second + 60.0
            if deadlines.next_tick() <= second:
                looks += 1
                deadlines.expire(float(second))
        assert timed.told == []
        assert looks <= 10


class TestRemove:
    def test_one_that_is_closed_is_not_told(self) -> None:
        kept, removed = Timed(5.0), Timed(5.0)
        deadlines = filed(kept, removed)
        deadlines.remove(removed)
        assert removed.filed == NEVER
        assert deadlines.expire(6.0) == 1
        assert removed.told == []

    def test_the_last_of_a_tick_takes_the_tick_along(self) -> None:
        timed = Timed(5.0)
        deadlines = filed(timed)
        deadlines.remove(timed)
        assert deadlines.next_tick() == NEVER

    def test_one_that_is_not_filed_may_be_removed(self) -> None:
        deadlines = filed(Timed(5.0))
        deadlines.remove(Timed(5.0))
        assert deadlines.next_tick() == pytest.approx(5.1)

    def test_twice_is_no_matter(self) -> None:
        timed = Timed(5.0)
        deadlines = filed(timed)
        deadlines.remove(timed)
        deadlines.remove(timed)
        assert deadlines.expire(6.0) == 0


class TestFromInside:
    def test_a_new_deadline_may_be_set_when_told(self) -> None:
        def go_on(timed: Timed) -> None:
            timed.deadline = timed.told[-1] + 1.0

        timed = Timed(5.0, go_on)
        deadlines = filed(timed)
        for now in (5.2, 6.5, 8.0):
            assert deadlines.expire(now) == 1
        assert timed.told == [5.2, 6.5, 8.0]

    def test_the_new_deadline_may_be_filed_at_once(self) -> None:
        deadlines = Deadlines(RESOLUTION)

        def go_on(timed: Timed) -> None:
            timed.deadline = timed.told[-1] + 1.8
            deadlines.file(timed)

        timed = Timed(5.0, go_on)
        deadlines.file(timed)
        assert deadlines.expire(5.2) == 1
        assert deadlines.next_tick() == pytest.approx(7.1)
        assert deadlines.expire(7.2) == 1

    def test_another_may_be_removed_when_told(self) -> None:
        deadlines = Deadlines(RESOLUTION)
        pair: list[Timed] = []

        def close_other(timed: Timed) -> None:
            for other in pair:
                if other is not timed:
                    deadlines.remove(other)

        pair += [Timed(5.0, close_other), Timed(5.0, close_other)]
        for timed in pair:
            deadlines.file(timed)
        assert deadlines.expire(6.0) == 1
        assert sum(len(timed.told) for timed in pair) == 1
        assert deadlines.next_tick() == NEVER

    def test_another_in_a_later_tick_may_be_removed_when_told(self) -> None:
        later = Timed(5.5)
        deadlines = Deadlines(RESOLUTION)
        deadlines.file(later)
        deadlines.file(Timed(5.0, lambda timed: deadlines.remove(later)))
        assert deadlines.expire(6.0) == 1
        assert later.told == []

    def test_one_may_be_closed_when_told(self) -> None:
        deadlines = Deadlines(RESOLUTION)
        timed = Timed(5.0, deadlines.remove)
        deadlines.file(timed)
        assert deadlines.expire(6.0) == 1
        assert deadlines.next_tick() == NEVER


def test_a_deadline_that_is_left_in_the_past_is_told_once_a_sweep() -> None:
    class Stubborn:
        deadline = 1.0
        filed = NEVER
        told = 0

        def deadline_passed(self, now: float) -> None:
            self.told += 1
            assert self.told < 10, "endless"

    deadlines, timed = Deadlines(), Stubborn()
    deadlines.file(timed)
    deadlines.expire(5.0)
    assert timed.told == 1
    deadlines.expire(5.1)
    assert timed.told == 2
