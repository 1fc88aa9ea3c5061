"""From samples to the table that people read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.load import Scenario
from bench.measure import Sample
from bench.peers import REFERENCE
from bench.stats import Interval, bootstrap, ratios_by_pair

WIDTH = 110
_COLUMNS = (
    ("contender", 14),
    ("req/s", 7),
    ("CPU µs/req", 10),
    ("95 %", 15),
    (f"x {REFERENCE}", 9),
    ("95 %", 11),
    ("p50 ms", 7),
    ("p99 ms", 7),
    ("RSS MiB", 7),
    ("failed", 10),
)


@dataclass(frozen=True)
class Row:
    """What one contender did in one scenario, over all rounds."""

    scenario: str
    peer: str
    requests_per_second: float
    cpu_us: Interval | None
    """CPU microseconds per request; None when nothing was answered."""
    ratio: Interval | None
    """CPU per request relative to the reference, pair by pair; None without the reference."""
    p50_ms: float
    p99_ms: float
    rss_bytes: int
    requests: int
    non_2xx: int
    socket_errors: int
    failed: int


def _cpu_by_turn(samples: Iterable[Sample]) -> dict[int, float]:
    return {sample.turn: sample.cpu_us for sample in samples if sample.cpu_us is not None}


def summarise(samples: Sequence[Sample]) -> list[Row]:
    """One row per scenario and contender, in the order in which they first appear."""
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.scenario, sample.peer), []).append(sample)
    rows = []
    for (scenario, peer), group in groups.items():
        cpu = _cpu_by_turn(group)
        ratios = ratios_by_pair(cpu, _cpu_by_turn(groups.get((scenario, REFERENCE), ())))
        rows.append(
            Row(
                scenario=scenario,
                peer=peer,
                requests_per_second=median(sample.requests / sample.seconds for sample in group),
                cpu_us=bootstrap(list(cpu.values())) if cpu else None,
                ratio=bootstrap(ratios) if ratios else None,
                p50_ms=median(sample.p50_ms for sample in group),
                p99_ms=median(sample.p99_ms for sample in group),
                rss_bytes=max(sample.rss_bytes for sample in group),
                requests=sum(sample.requests for sample in group),
                non_2xx=sum(sample.non_2xx for sample in group),
                socket_errors=sum(sample.socket_errors for sample in group),
                failed=sum(sample.failed for sample in group),
            )
        )
    return rows


def _line(cells: Sequence[str]) -> str:
    """The first column to the left, the figures to the right, each after at least one space."""
    padded = [
        f"{cell:>{width}}" if index else f"{cell:<{width}}"
        for index, (cell, (_, width)) in enumerate(zip(cells, _COLUMNS, strict=True))
    ]
    return " ".join(padded).rstrip()


def _median_and_range(interval: Interval | None, decimals: int) -> tuple[str, str]:
    if interval is None:
        return "-", "-"
    return (
        f"{interval.median:.{decimals}f}",
        f"{interval.low:.{decimals}f}..{interval.high:.{decimals}f}",
    )


def _cells(row: Row) -> list[str]:
    return [
        row.peer,
        f"{row.requests_per_second:.0f}",
        *_median_and_range(row.cpu_us, 1),
        *_median_and_range(row.ratio, 2),
        f"{row.p50_ms:.2f}",
        f"{row.p99_ms:.2f}",
        f"{row.rss_bytes / 2**20:.1f}",
        f"{row.failed} !!!" if row.failed else "0",
    ]


def failures(rows: Iterable[Row]) -> list[str]:
    """A line for each contender that did not answer everything well."""
    return [
        f"!!! {row.scenario}: {row.peer} FAILED: {row.non_2xx} non-2xx responses and {row.socket_errors} socket errors "
        f"beside {row.requests} answers"
        for row in rows
        if row.failed
    ]


def table(scenarios: Iterable[Scenario], rows: Sequence[Row]) -> str:
    """The whole table as plain text, at most WIDTH columns wide."""
    lines: list[str] = []
    for scenario in scenarios:
        heading = f"{scenario.name}: {scenario.title}"
        lines += [heading, _line([name for name, _ in _COLUMNS]), "-" * (sum(width + 1 for _, width in _COLUMNS) - 1)]
        lines += [_line(_cells(row)) for row in rows if row.scenario == scenario.name]
        lines.append("")
    return "\n".join(lines + failures(rows)).rstrip()
