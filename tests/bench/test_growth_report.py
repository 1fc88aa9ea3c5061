from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from bench.growth_report import Point, Sample, Series, markdown, remarks, summarise, verdicts

SERIES = Series("things", "Things", "things", (10, 100, 1_000))
WORK = dataclasses.replace(SERIES, is_work=True)


def points(costs: Mapping[int, float], peer: str = "podlb-epoll", mib: float = 30.0) -> list[Point]:
    return [Point("things", peer, size, cost, mib, 0, None) for size, cost in costs.items()]


def test_a_point_is_the_median_of_its_rounds_and_the_sum_of_its_failures() -> None:
    def sample(turn: int, cost: float, mib: int, failed: int, reached: float | None) -> Sample:
        return Sample("things", "haproxy", 10, turn, cost, mib * 2**20, failed, reached)

    one, three = summarise(
        [
            sample(0, 5.0, 20, 0, 9.0),
            sample(1, 90.0, 22, 2, 8.0),
            sample(2, 6.0, 21, 1, 10.0),
            sample(0, 7.0, 20, 0, None)._replace(size=100),
        ]
    )
    assert one == Point("things", "haproxy", 10, cost=6.0, rss_mib=21.0, failed=3, reached=9.0)
    assert three == Point("things", "haproxy", 100, cost=7.0, rss_mib=20.0, failed=0, reached=None)


def test_the_table_is_markdown_with_a_gap_where_one_has_no_part() -> None:
    found = points({10: 40.0, 1_000: 44.44}) + points({10: 20.04}, "haproxy", 15.0)
    assert markdown(SERIES, found).splitlines() == [
        "| things | podlb-epoll: CPU µs per request | podlb-epoll: MiB | haproxy: CPU µs per request | haproxy: MiB |",
        "|---|---|---|---|---|",
        "| 10 | 40.0 | 30.0 | 20.0 | 15.0 |",
        "| 1,000 | 44.4 | 30.0 | - | - |",
    ]


@pytest.mark.parametrize(
    ("series", "costs", "is_faster"),
    [
        # A request is as much work, however many things there are.
        (SERIES, {10: 40.0, 100: 50.0, 1_000: 60.0}, False),
        (SERIES, {10: 40.0, 100: 50.0, 1_000: 61.0}, True),
        # What grows is the work.
        (WORK, {10: 40.0, 100: 400.0, 1_000: 4_000.0}, False),
        (WORK, {10: 40.0, 100: 400.0, 1_000: 6_100.0}, True),
        # A constant part at the beginning does not hide what bends upwards at the end.
        (WORK, {10: 1_000.0, 100: 1_010.0, 1_000: 16_000.0}, True),
        (WORK, {10: 1_000.0, 100: 1_010.0, 1_000: 15_000.0}, False),
    ],
)
def test_what_outgrows_the_work_is_told(series: Series, costs: dict[int, float], is_faster: bool) -> None:
    cpu, memory = verdicts(series, points(costs))
    assert cpu.endswith("GROWS FASTER than the work" if is_faster else "grows no faster than the work")
    assert memory.endswith(
        "memory at 1,000 things is 1.00 x that at 10, the work is 100 x: grows no faster than the work"
    )


def test_the_verdict_has_both_ends_and_the_work() -> None:
    cpu, _ = verdicts(SERIES, points({10: 40.0, 1_000: 50.0}))
    assert cpu == (
        "things: podlb-epoll: CPU at 1,000 things is 1.25 x that at 10, the work is the same: "
        "grows no faster than the work"
    )


def test_memory_that_outgrows_what_it_holds_is_told() -> None:
    found = [Point("things", "it", size, 1.0, mib, 0, None) for size, mib in ((10, 1.0), (100, 10.0), (1_000, 160.0))]
    _, memory = verdicts(SERIES, found)
    assert memory.endswith("GROWS FASTER than the work")


def test_sizes_below_the_first_that_counts_are_not_compared() -> None:
    series = dataclasses.replace(WORK, compared_from=100)
    cpu, _ = verdicts(series, points({0: 3.0, 10: 1.0, 100: 40.0, 1_000: 400.0}))
    assert "is 10.00 x that at 100, the work is 10 x" in cpu


def test_nothing_is_said_of_one_point_or_of_noise() -> None:
    assert verdicts(SERIES, points({10: 1.0})) == [
        "things: podlb-epoll: measured at one size only, which says nothing of growth"
    ]
    cpu, _ = verdicts(SERIES, points({10: -0.5, 100: 3.0}))
    assert cpu == "things: podlb-epoll: CPU is too small to say how it grows"


def test_failures_and_rates_that_were_not_reached_are_remarked() -> None:
    good, bad, slow = points({10: 1.0, 100: 1.0, 1_000: 1.0})
    assert remarks(SERIES, [good._replace(reached=9.8), bad._replace(failed=2), slow._replace(reached=960.0)]) == [
        "!!! things: podlb-epoll at 100 things FAILED: 2 requests or connections",
        "things: podlb-epoll at 1,000 things: the rate came to 960 only",
    ]
