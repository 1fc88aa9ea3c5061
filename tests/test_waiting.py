"""The requests that wait for an endpoint."""

from __future__ import annotations

from lb.waiting import Waiting


class Waiter:
    """Stands in for a request that waits."""

    def try_again(self, now: float) -> bool:
        return False


def test_nobody_waits_at_first() -> None:
    waiting = Waiting(10)
    assert len(waiting) == 0
    assert not waiting
    assert waiting.in_order() == []


def test_they_wait_in_the_order_in_which_they_came() -> None:
    waiting = Waiting(10)
    waiters = [Waiter() for _ in range(5)]
    assert all(waiting.enter(waiter) for waiter in waiters)
    assert len(waiting) == 5
    assert waiting
    assert waiting.in_order() == waiters
    assert all(waiter in waiting for waiter in waiters)
    waiting.leave(waiters[0])
    assert waiters[0] not in waiting


def test_at_most_so_many_wait() -> None:
    waiting = Waiting(2)
    first, second, third = Waiter(), Waiter(), Waiter()
    assert waiting.enter(first)
    assert waiting.enter(second)
    assert not waiting.enter(third)
    assert waiting.in_order() == [first, second]
    waiting.leave(first)
    assert waiting.enter(third)
    assert waiting.in_order() == [second, third]


def test_whoever_waits_already_keeps_its_place() -> None:
    waiting = Waiting(2)
    first, second = Waiter(), Waiter()
    waiting.enter(first)
    waiting.enter(second)
    assert waiting.enter(first)
    assert waiting.in_order() == [first, second]


def test_leaving_without_waiting_is_no_matter() -> None:
    waiting = Waiting(2)
    waiter = Waiter()
    waiting.enter(waiter)
    waiting.leave(Waiter())
    assert len(waiting) == 1
    waiting.leave(waiter)
    waiting.leave(waiter)
    assert len(waiting) == 0


def test_a_limit_of_zero_lets_nobody_wait() -> None:
    assert not Waiting(0).enter(Waiter())


def test_they_may_leave_while_they_are_gone_through() -> None:
    waiting = Waiting(10)
    waiters = [Waiter() for _ in range(3)]
    for waiter in waiters:
        waiting.enter(waiter)
    for waiter in waiting.in_order():
        waiting.leave(waiter)
    assert len(waiting) == 0
