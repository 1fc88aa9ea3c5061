"""How long to wait before the next try."""

from __future__ import annotations

import pytest

from lb.discovery.backoff import FIRST_SECONDS, LONGEST_SECONDS, Backoff

JUST_BELOW_ONE = 1.0 - 2**-53


def test_pauses_double_up_to_a_second() -> None:
    backoff = Backoff(lambda: 0.0)
    assert [backoff.next() for _ in range(7)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0])


def test_chance_shortens_a_pause_by_up_to_a_half() -> None:
    backoff = Backoff(lambda: JUST_BELOW_ONE)
    assert [backoff.next() for _ in range(6)] == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.5, 0.5])


def test_each_pause_draws_anew() -> None:
    drawn = iter([0.0, 0.5, 0.25])
    backoff = Backoff(lambda: next(drawn))
    assert [backoff.next() for _ in range(3)] == pytest.approx([0.1, 0.15, 0.35])


def test_after_a_success_it_begins_anew() -> None:
    backoff = Backoff(lambda: 0.0)
    for _ in range(10):
        backoff.next()
    assert backoff.next() == LONGEST_SECONDS
    backoff.reset()
    assert backoff.next() == FIRST_SECONDS
    assert backoff.next() == 2 * FIRST_SECONDS


def test_it_never_overflows() -> None:
    backoff = Backoff(lambda: 0.0)
    assert max(backoff.next() for _ in range(5000)) == LONGEST_SECONDS
