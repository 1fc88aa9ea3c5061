"""Changes that come one upon the other cost one update."""

from __future__ import annotations

import threading

import pytest

from lb.discovery.settling import Settling
from tests.fakes import DEADLINE, eventually

LONG = 3600.0


class Updates:
    """Counts the updates, and knows in which thread each was."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.came = threading.Event()

    def __call__(self) -> None:
        self.threads.append(threading.current_thread())
        self.came.set()


def change(settling: Settling, **options: bool) -> None:
    with settling.lock:
        settling.changed()
    settling.settle(**options)


def test_a_change_alone_is_settled_at_once() -> None:
    settling = Settling(updates := Updates(), LONG)
    change(settling)
    assert updates.threads == [threading.current_thread()]


def test_without_a_change_there_is_nothing_to_settle() -> None:
    settling = Settling(updates := Updates(), LONG)
    settling.settle()
    settling.settle(more_follows=True)
    change(settling)
    settling.settle()
    assert len(updates.threads) == 1


def test_what_failed_is_tried_again() -> None:
    tries: list[None] = []

    def settle() -> None:
        tries.append(None)
        if len(tries) == 1:
            raise MemoryError

    settling = Settling(settle, LONG)
    with pytest.raises(MemoryError):
        change(settling)
    for _ in range(2):
        settling.settle()
    assert len(tries) == 2


def test_changes_that_others_follow_are_settled_with_the_last() -> None:
    settling = Settling(updates := Updates(), LONG)
    for _ in range(19):
        change(settling, more_follows=True)
    assert updates.threads == []
    change(settling)
    assert updates.threads == [threading.current_thread()]


def test_one_that_nothing_follows_after_all_is_settled_soon() -> None:
    settling = Settling(updates := Updates(), 0.01)
    change(settling, more_follows=True)
    assert updates.came.wait(DEADLINE)
    assert updates.threads != [threading.current_thread()]
    # And the next one has its own time.
    updates.came.clear()
    change(settling, more_follows=True)
    assert updates.came.wait(DEADLINE)
    assert len(updates.threads) == 2


def test_no_update_sees_half_a_change() -> None:
    settling = Settling(updates := Updates(), 0.001)
    change(settling, more_follows=True)
    with settling.lock:
        # The time passes while a change is being made.
        assert not updates.came.wait(0.05)
        settling.changed()
    assert updates.came.wait(DEADLINE)


def test_an_update_that_fails_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    def update() -> None:
        raise ValueError("oops")

    change(Settling(update, 0.001), more_follows=True)
    eventually(lambda: "an update of the endpoints failed" in caplog.text, "the line")
