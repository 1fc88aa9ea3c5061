"""From samples to the tables that people read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.load import SCENARIOS, Scenario
from bench.measure import Sample
from bench.peers import CONTROL, SPLICING_REFERENCE
from bench.stats import Interval, bootstrap, ratios_by_pair
from bench.table import Column, median_of, range_of, render

WIDTH = 122
FULL = 0.97
"""From this share on a core counts as full."""


@dataclass(frozen=True)
class Row:
    """What one contender did in one scenario, over all rounds."""

    scenario: str
    peer: str
    requests_per_second: Interval
    is_lower_bound: bool
    """Was the core of load and backend full, so that the contender could have done more?"""
    bytes_per_second: Interval
    cpu_us: Interval | None
    """CPU microseconds per request; None when nothing was answered."""
    cpu_s_per_gb: Interval | None
    """CPU seconds per 10^9 bytes delivered; None when nothing was answered."""
    ratio: Interval | None
    """The cost that the scenario is about relative to the reference, pair by pair; None without the reference."""
    splicing_ratio: Interval | None
    """The same relative to HAProxy that splices, where that was measured."""
    p50_ms: Interval
    p99_ms: Interval
    rss_bytes: Interval
    requests: int
    non_2xx: int
    socket_errors: int
    short_bodies: int
    failed: int
    known_requests: float | None
    known_responses: float | None
    """The median shares of heads that it remembered and did not read, where it tells."""


def _interval(values: Iterable[float | None]) -> Interval | None:
    measured = [value for value in values if value is not None]
    return bootstrap(measured) if measured else None


def _median_of_told(values: Iterable[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return median(told) if told else None


def _cost_by_turn(samples: Iterable[Sample], scenario: Scenario) -> dict[int, float]:
    costs = ((sample.turn, sample.cost(scenario)) for sample in samples)
    return {turn: cost for turn, cost in costs if cost is not None}


def summarise(samples: Sequence[Sample]) -> list[Row]:
    """One row per scenario and contender, in the order in which they first appear."""
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.scenario, sample.peer), []).append(sample)

    def ratio(scenario: str, peer: str, reference: str) -> Interval | None:
        costs, beside = (
            _cost_by_turn(groups.get((scenario, name), ()), SCENARIOS[scenario]) for name in (peer, reference)
        )
        return _interval(ratios_by_pair(costs, beside))

    return [
        Row(
            scenario=scenario,
            peer=peer,
            requests_per_second=bootstrap([sample.requests / sample.seconds for sample in group]),
            is_lower_bound=median(sample.load_busy for sample in group) >= FULL and peer != CONTROL.name,
            bytes_per_second=bootstrap([sample.bytes_read / sample.seconds for sample in group]),
            cpu_us=_interval(sample.cpu_us for sample in group),
            cpu_s_per_gb=_interval(sample.cpu_s_per_gb for sample in group),
            ratio=None if peer == CONTROL.name else ratio(scenario, peer, SCENARIOS[scenario].reference),
            splicing_ratio=None if peer == CONTROL.name else ratio(scenario, peer, SPLICING_REFERENCE),
            p50_ms=bootstrap([sample.p50_ms for sample in group]),
            p99_ms=bootstrap([sample.p99_ms for sample in group]),
            rss_bytes=bootstrap([sample.rss_bytes for sample in group]),
            requests=sum(sample.requests for sample in group),
            non_2xx=sum(sample.non_2xx for sample in group),
            socket_errors=sum(sample.socket_errors for sample in group),
            short_bodies=sum(sample.short_bodies for sample in group),
            failed=sum(sample.failed for sample in group),
            known_requests=_median_of_told(sample.known_requests for sample in group),
            known_responses=_median_of_told(sample.known_responses for sample in group),
        )
        for (scenario, peer), group in groups.items()
    ]


def _known(row: Row) -> str:
    if row.known_requests is None or row.known_responses is None:
        return "-"
    return f"{row.known_requests:.0%}/{row.known_responses:.0%}".replace("%", "")


_CONTENDER = Column[Row]("contender", 16, lambda row: row.peer)
_END = (
    Column[Row]("known %", 7, lambda row: _known(row)),
    Column[Row]("RSS MiB", 7, lambda row: f"{row.rss_bytes.median / 2**20:.1f}"),
    Column[Row]("failed", 10, lambda row: f"{row.failed} !!!" if row.failed else "0"),
)


def _ratio(reference: str) -> tuple[Column[Row], ...]:
    heading = f"x {reference}"
    return (
        Column[Row](heading, max(9, len(heading)), lambda row: median_of(row.ratio, 2)),
        Column[Row]("95 %", 11, lambda row: range_of(row.ratio, 2)),
    )


def _by_request(reference: str) -> tuple[Column[Row], ...]:
    return (
        _CONTENDER,
        Column[Row]("req/s", 8, lambda row: f"{'>' if row.is_lower_bound else ''}{row.requests_per_second.median:.0f}"),
        Column[Row]("CPU µs/req", 10, lambda row: median_of(row.cpu_us, 1)),
        Column[Row]("95 %", 15, lambda row: range_of(row.cpu_us, 1)),
        *_ratio(reference),
        Column[Row]("p50 ms", 7, lambda row: f"{row.p50_ms.median:.2f}"),
        Column[Row]("p99 ms", 7, lambda row: f"{row.p99_ms.median:.2f}"),
        *_END,
    )


def _by_byte(reference: str) -> tuple[Column[Row], ...]:
    return (
        _CONTENDER,
        Column[Row]("GB/s", 7, lambda row: f"{row.bytes_per_second.median / 1e9:.2f}"),
        Column[Row]("CPU s/GB", 10, lambda row: median_of(row.cpu_s_per_gb, 3)),
        Column[Row]("95 %", 12, lambda row: range_of(row.cpu_s_per_gb, 3)),
        *_ratio(reference),
        Column[Row]("x splice", 8, lambda row: median_of(row.splicing_ratio, 2)),
        Column[Row]("95 %", 11, lambda row: range_of(row.splicing_ratio, 2)),
        *_END,
    )


_SPREAD = (
    _CONTENDER,
    Column[Row]("req/s", 17, lambda row: range_of(row.requests_per_second, 0)),
    Column[Row]("GB/s", 12, lambda row: range_of(row.bytes_per_second, 2, 1e9)),
    Column[Row]("p50 ms", 17, lambda row: range_of(row.p50_ms, 2)),
    Column[Row]("p99 ms", 19, lambda row: range_of(row.p99_ms, 2)),
    Column[Row]("RSS MiB", 15, lambda row: range_of(row.rss_bytes, 1, 2**20)),
)
"""The intervals for which the other table has no room."""


def failures(rows: Iterable[Row]) -> list[str]:
    """A line for each contender that did not answer everything well."""
    return [
        f"!!! {row.scenario}: {row.peer} FAILED: {row.non_2xx} non-2xx responses, {row.socket_errors} socket errors "
        f"and {row.short_bodies} short or wrong bodies beside {row.requests} answers"
        for row in rows
        if row.failed
    ]


def table(scenarios: Iterable[Scenario], rows: Sequence[Row]) -> str:
    """All tables as plain text, at most WIDTH columns wide."""
    lines: list[str] = []
    for scenario in scenarios:
        its_rows = [row for row in rows if row.scenario == scenario.name]
        if its_rows:
            columns = (_by_byte if scenario.is_by_byte else _by_request)(scenario.reference)
            lines += [*render(f"{scenario.name}: {scenario.title}", columns, its_rows), ""]
            lines += [*render(f"{scenario.name}: 95 % intervals of the others", _SPREAD, its_rows), ""]
    if any(row.is_lower_bound for row in rows):
        lines += ["> the core of load and backend was full: the contender could have done more", ""]
    return "\n".join(lines + failures(rows)).rstrip()
