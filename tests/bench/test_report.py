from __future__ import annotations

import dataclasses

import pytest

from bench.load import SCENARIOS
from bench.measure import Sample
from bench.report import WIDTH, failures, summarise, table
from bench.stats import Interval

GOOD = Sample(
    scenario="small",
    peer="haproxy",
    turn=0,
    requests=100_000,
    seconds=2.0,
    cpu_seconds=1.6,
    p50_ms=0.6,
    p99_ms=1.2,
    rss_bytes=15 * 2**20,
    non_2xx=0,
    socket_errors=0,
    bytes_read=25_000_000,
    short_bodies=0,
)


def three_rounds(peer: str, cpu_seconds: tuple[float, float, float]) -> list[Sample]:
    return [GOOD._replace(peer=peer, turn=turn, cpu_seconds=cpu) for turn, cpu in enumerate(cpu_seconds)]


def test_a_row_has_medians_and_ratios_by_pair() -> None:
    samples = three_rounds("haproxy", (1.0, 2.0, 4.0)) + three_rounds("podlb-uvloop", (1.5, 3.0, 5.6))
    haproxy, podlb = summarise(samples)
    assert haproxy.cpu_us is not None
    assert haproxy.cpu_us.median == pytest.approx(20)
    assert haproxy.ratio is not None
    assert dataclasses.astuple(haproxy.ratio) == (1.0, 1.0, 1.0)
    assert podlb.ratio is not None
    assert podlb.ratio.median == pytest.approx(1.5)
    assert podlb.ratio.low == pytest.approx(1.4)
    assert podlb.requests_per_second.median == 50_000
    assert podlb.requests == 300_000


def test_without_the_reference_there_is_no_ratio() -> None:
    (row,) = summarise(three_rounds("nginx", (1.0, 2.0, 4.0)))
    assert row.ratio is None
    assert row.cpu_us is not None


def test_scenarios_are_not_mixed() -> None:
    rows = summarise([GOOD, GOOD._replace(scenario="browser", cpu_seconds=3.2)])
    assert [(row.scenario, row.cpu_us and row.cpu_us.median) for row in rows] == [("small", 16.0), ("browser", 32.0)]


def bulk(peer: str, *gigabytes: float) -> list[Sample]:
    """Rounds of one CPU second each, with so many GB delivered."""
    return [
        GOOD._replace(scenario="bulk", peer=peer, turn=turn, cpu_seconds=1.0, bytes_read=round(gb * 1e9))
        for turn, gb in enumerate(gigabytes)
    ]


def test_the_cost_of_long_bodies_is_counted_by_byte() -> None:
    samples = bulk("haproxy", 2, 4, 2) + bulk("haproxy-splice", 4, 8, 4) + bulk("podlb-epoll", 2.5, 5, 2.5)
    haproxy, _, podlb = summarise(samples)
    assert haproxy.cpu_s_per_gb is not None
    assert haproxy.cpu_s_per_gb.median == 0.5
    assert podlb.ratio is not None
    assert podlb.ratio.median == pytest.approx(0.8), "not by request: there were as many of them"
    assert podlb.splicing_ratio is not None
    assert podlb.splicing_ratio.median == pytest.approx(1.6)
    assert podlb.bytes_per_second.median == 1.25e9


def test_the_table_of_long_bodies_fits_and_says_gigabytes() -> None:
    rows = summarise(bulk("haproxy", 2, 4) + bulk("haproxy-splice", 4, 8) + bulk("podlb-epoll-h11", 0.5, 1))
    lines = table([SCENARIOS["bulk"]], rows).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert "CPU s/GB" in lines[1]
    assert next(line for line in lines if line.startswith("haproxy-splice")).split() == [
        *(
            "haproxy-splice",
            "3.00",
            "0.188",
            "0.125..0.250",
            "0.50",
            "0.50..0.50",
            "1.00",
            "1.00..1.00",
            "-",
            "15.0",
            "0",
        )
    ]
    assert "4.00..4.00" in next(line for line in lines if line.startswith("podlb-epoll-h11"))


def test_a_scenario_has_a_reference_of_its_own() -> None:
    samples = [
        sample._replace(scenario="tcp")
        for sample in three_rounds("haproxy-tcp", (1.0, 1.0, 1.0)) + three_rounds("podlb-uvloop-tcp", (1.5, 1.5, 1.5))
    ]
    rows = summarise(samples)
    assert rows[1].ratio is not None
    assert rows[1].ratio.median == 1.5
    lines = table([SCENARIOS["tcp"]], rows).splitlines()
    assert "x haproxy-tcp" in lines[1]
    assert lines[1].index("x haproxy-tcp") + len("x haproxy-tcp") == lines[4].index(" 1.50 ") + len(" 1.50")
    assert max(map(len, lines)) <= WIDTH


@pytest.mark.parametrize("field", ["non_2xx", "socket_errors", "short_bodies"])
def test_any_failed_request_is_loud(field: str) -> None:
    rows = summarise([GOOD, GOOD._replace(turn=1, **{field: 1})])
    (line,) = failures(rows)
    assert "haproxy FAILED" in line
    text = table([SCENARIOS["small"]], rows)
    assert "1 !!!" in text
    assert line in text


def test_a_measurement_without_an_answer_has_failed() -> None:
    (row,) = summarise([GOOD._replace(requests=0)])
    assert row.cpu_us is None
    assert failures([row])


def test_clean_rows_have_no_failures() -> None:
    assert failures(summarise([GOOD])) == []


def test_the_table_fits_its_width_and_keeps_its_columns_apart() -> None:
    huge = GOOD._replace(
        peer="podlb-epoll-h11", requests=1, cpu_seconds=0.0012345, p50_ms=1999.99, p99_ms=12345.67, rss_bytes=2**33
    )
    rows = summarise([GOOD, huge])
    lines = table([SCENARIOS["small"], SCENARIOS["browser"]], rows).splitlines()
    assert max(map(len, lines)) <= WIDTH
    row = next(line for line in lines if line.startswith("podlb-epoll-h11"))
    assert row.split() == [
        *("podlb-epoll-h11", "0", "1234.5", "1234.5..1234.5", "77.16", "77.16..77.16"),
        *("1999.99", "12345.67", "-", "8192.0", "0"),
    ]


def test_every_figure_has_its_interval() -> None:
    samples = [
        GOOD._replace(turn=times, requests=100_000 * times, p50_ms=times, p99_ms=10 * times, rss_bytes=times * 2**20)
        for times in (1, 2, 3)
    ]
    (row,) = summarise(samples)
    speed = 100_000 / GOOD.seconds
    assert row.requests_per_second == Interval(2 * speed, speed, 3 * speed)
    assert (row.p50_ms, row.p99_ms) == (Interval(2, 1, 3), Interval(20, 10, 30))
    assert row.rss_bytes == Interval(2 * 2**20, 2**20, 3 * 2**20)
    lines = table([SCENARIOS["small"]], [row]).splitlines()
    (spread,) = [line for line in lines if line.startswith("haproxy") and "1.00..3.00" in line]
    assert spread.split()[1:] == [
        *(f"{speed:.0f}..{3 * speed:.0f}", "0.01..0.01", "1.00..3.00", "10.00..30.00", "1.0..3.0")
    ]


def test_the_shares_of_heads_that_were_remembered_stand_beside_the_figures() -> None:
    samples = [
        GOOD._replace(peer="podlb-epoll", turn=turn, known_requests=share, known_responses=0.994)
        for turn, share in enumerate((1.0, 0.25, 0.254))
    ]
    rows = summarise([GOOD, *samples])
    assert [(row.known_requests, row.known_responses) for row in rows] == [(None, None), (0.254, 0.994)]
    lines = table([SCENARIOS["small"]], rows).splitlines()
    assert "known %" in lines[1]
    assert " 25/99 " in lines[4]
