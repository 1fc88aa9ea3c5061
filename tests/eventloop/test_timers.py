"""Timers as a heap with lazy cancellation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lb.eventloop.timers import Timers


class Timer:
    def __init__(self, name: int = 0) -> None:
        self.name = name
        self.is_cancelled = False

    def cancelled(self) -> bool:
        return self.is_cancelled


def cancel(timers: Timers[Timer], timer: Timer) -> None:
    timer.is_cancelled = True
    timers.note_cancelled()


def test_nothing_is_due_when_there_is_nothing() -> None:
    timers: Timers[Timer] = Timers()
    assert not timers
    assert timers.next_when() is None
    assert timers.pop_due(1e9) == []


def test_the_soonest_first_and_of_equals_the_first_added() -> None:
    timers: Timers[Timer] = Timers()
    late, first, second = Timer(), Timer(), Timer()
    timers.push(2.0, late)
    timers.push(1.0, first)
    timers.push(1.0, second)
    assert timers.next_when() == 1.0
    assert timers.pop_due(0.999) == []
    assert timers.pop_due(1.0) == [first, second]
    assert timers.next_when() == 2.0


def test_a_cancelled_one_is_neither_due_nor_next() -> None:
    timers: Timers[Timer] = Timers()
    gone, there = Timer(), Timer()
    timers.push(1.0, gone)
    timers.push(2.0, there)
    cancel(timers, gone)
    assert timers.next_when() == 2.0
    assert timers.pop_due(3.0) == [there]
    assert not timers


def test_many_cancelled_ones_are_purged() -> None:
    timers: Timers[Timer] = Timers()
    kept = Timer()
    timers.push(5000.0, kept)
    for number in range(1000):
        timer = Timer()
        timers.push(float(number), timer)
        cancel(timers, timer)
        assert len(timers._heap) <= 202
    assert timers.pop_due(1e9) == [kept]


@given(st.lists(st.tuples(st.sampled_from(["push", "cancel", "pop"]), st.integers(0, 20)), max_size=300))
def test_it_is_a_sorted_list(steps: list[tuple[str, int]]) -> None:
    timers: Timers[Timer] = Timers()
    model: list[tuple[int, int, Timer]] = []
    for order, (what, number) in enumerate(steps):
        if what == "push":
            timer = Timer(order)
            timers.push(float(number), timer)
            model.append((number, order, timer))
        elif what == "cancel" and model:
            entry = model.pop(number % len(model))
            cancel(timers, entry[2])
        elif what == "pop":
            due = sorted(entry for entry in model if entry[0] <= number)
            model = [entry for entry in model if entry[0] > number]
            assert [timer.name for timer in timers.pop_due(float(number))] == [entry[1] for entry in due]
        assert timers.next_when() == (min(model)[0] if model else None)
