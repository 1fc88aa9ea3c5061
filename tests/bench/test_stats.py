from __future__ import annotations

import random

import pytest

from bench.stats import Interval, bootstrap, ratios_by_pair


def test_the_interval_holds_the_median_and_stays_within_the_values() -> None:
    values = [1.31, 1.29, 1.40, 1.33, 1.30, 1.35, 1.32, 1.28, 1.34, 1.36, 1.27]
    interval = bootstrap(values)
    assert interval.median == 1.32
    assert min(values) < interval.low <= 1.32 <= interval.high < max(values)


def test_the_same_values_give_the_same_interval() -> None:
    values = [5.0, 1.0, 3.0, 9.0, 2.0]
    assert bootstrap(values) == bootstrap(values)


def test_equal_values_leave_no_doubt() -> None:
    assert bootstrap([2.0] * 11) == Interval(2.0, 2.0, 2.0)


def test_more_noise_makes_a_wider_interval() -> None:
    draw = random.Random(5)
    noise = [draw.gauss(0, 1) for _ in range(11)]
    calm = bootstrap([10 + 0.1 * value for value in noise])
    rough = bootstrap([10 + value for value in noise])
    assert rough.high - rough.low > 5 * (calm.high - calm.low)


def test_two_values_give_their_range() -> None:
    assert bootstrap([3.0, 1.0]) == Interval(2.0, 1.0, 3.0)
    assert bootstrap([7.0]) == Interval(7.0, 7.0, 7.0)


def test_no_values_have_no_median() -> None:
    with pytest.raises(ValueError, match="no values"):
        bootstrap([])


def test_ratios_are_taken_within_a_round() -> None:
    # The machine was half as fast in round 1, for both: the ratio does not notice.
    assert ratios_by_pair({0: 15.0, 1: 30.0}, {0: 10.0, 1: 20.0}) == [1.5, 1.5]


def test_a_round_without_its_reference_does_not_count() -> None:
    assert ratios_by_pair({0: 15.0, 1: 30.0, 2: 8.0}, {2: 4.0, 0: 10.0}) == [1.5, 2.0]
