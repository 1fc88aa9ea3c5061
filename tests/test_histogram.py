"""Log-linear histograms of times."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.histogram import BLOCK, BOUNDS, COARSE, SUM, Times, cumulative, quantile

TIMES = st.lists(st.floats(min_value=0.0, max_value=5000.0), max_size=40)


def counted(times: list[float], block: int = 0) -> array[int]:
    values = array("Q", bytes(8 * (block + BLOCK + 3)))
    histogram = Times(values, block)
    for seconds in times:
        histogram.observe(seconds)
    histogram.settle()
    return values


def test_the_bounds() -> None:
    assert BOUNDS[0] == 1e-6
    assert BOUNDS[-1] == 1000.0
    assert sorted(set(BOUNDS)) == BOUNDS
    assert max(high / low for low, high in pairwise(BOUNDS)) <= 1.125
    # 0.1 and not 0.10000000000000002: people read them, and queries name them.
    assert 0.1 in BOUNDS
    assert {0.001, 0.0025, 0.005, 0.01, 0.1, 1.0, 2.5, 1000.0} <= set(COARSE) <= set(BOUNDS)


@pytest.mark.parametrize("bound", COARSE)
def test_a_bound_is_inclusive(bound: float) -> None:
    at = COARSE.index(bound)
    counts, total, _ = cumulative(counted([bound])[:BLOCK])
    assert counts == [0] * at + [1] * (len(COARSE) - at)
    assert total == 1
    assert cumulative(counted([bound * 1.0001])[:BLOCK])[0][at] == 0


@given(TIMES)
def test_what_prometheus_is_told(times: list[float]) -> None:
    counts, total, seconds = cumulative(counted(times, 7)[7 : 7 + BLOCK])
    assert counts == [sum(time <= bound for time in times) for bound in COARSE]
    assert total == len(times)
    assert seconds == pytest.approx(sum(times), abs=1e-9 * (len(times) + 1), rel=1e-12)


@given(TIMES)
def test_nothing_beside_the_block_is_touched(times: list[float]) -> None:
    values = counted(times, 2)
    assert list(values[:2]) == [0, 0]
    assert list(values[2 + BLOCK :]) == [0, 0, 0]


@given(TIMES.filter(bool), st.floats(min_value=0.0, max_value=1.0))
def test_a_quantile_is_in_the_bucket_of_the_true_one(times: list[float], share: float) -> None:
    found = quantile(counted(times)[:SUM], share)
    true = sorted(times)[max(math.ceil(share * len(times)) - 1, 0)]
    at = bisect_left(BOUNDS, true)
    low = BOUNDS[at - 1] if at else 0.0
    assert low <= found <= (BOUNDS[at] if at < len(BOUNDS) else BOUNDS[-1])


def test_quantiles() -> None:
    assert quantile([0] * SUM, 0.5) == 0.0
    assert quantile(counted([5000.0])[:SUM], 0.5) == 1000.0
    values = counted([0.001] * 99 + [0.1])
    assert quantile(values[:SUM], 0.5) == pytest.approx(0.001, rel=0.1)
    assert quantile(values[:SUM], 0.999) == pytest.approx(0.1, rel=0.1)


def test_each_bucket_is_one_place() -> None:
    for at, bound in enumerate(BOUNDS):
        values = counted([bound])
        assert [place for place in range(SUM) if values[place]] == [at]
        assert values[SUM] == int(bound * 1e9)
    assert counted([1000.1])[len(BOUNDS)] == 1
    assert counted([0.0])[0] == 1
    assert len(COARSE) < 30


def test_what_waits_is_bounded_and_counted_once() -> None:
    values = array("Q", bytes(8 * BLOCK))
    histogram = Times(values, 0)
    for number in range(2000):
        histogram.observe(number / 1000)
        assert number - sum(values[:SUM]) < 512
    for _ in range(2):
        histogram.settle()
        assert sum(values[:SUM]) == 2000
