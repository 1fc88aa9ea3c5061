"""What podlb is to reach, and whether a run reached it: `python -m bench.targets RUN.json`.

RUN.json is what `bench/run.py --json` writes. The table is Markdown, with the same figure for `parser: h11` beside it.
A figure is kept when its median is; the interval stands beside it, for whoever wants to be surer.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench import idle, open_loop
from bench.load import SCENARIOS
from bench.measure import Sample
from bench.peers import CONTROL, REFERENCE, SPLICING_REFERENCE
from bench.stats import Interval, bootstrap, ratios_by_pair

PODLB, TWIN = "podlb-epoll", "podlb-epoll-h11"
BEST = "the best peer"
"""The peer that costs least in that scenario, by its median, of those that are set up as they usually are.

HAProxy told to splice responses (`option splice-response`) is not: it stands in a line of its own.
"""


class TargetError(Exception):
    """A file is not what bench/run.py writes; the text says why."""


class Target(NamedTuple):
    """The cost of podlb over that of a peer, at most."""

    scenario: str
    peer: str
    limit: float


TARGETS = (
    Target("small", REFERENCE, 1.15),
    Target("small", "envoy", 0.45),
    Target("small", "traefik", 0.35),
    Target("small", "caddy", 0.30),
    Target("browser", REFERENCE, 1.5),
    Target("browser", "envoy", 0.65),
    Target("post", REFERENCE, 1.2),
    Target("medium", REFERENCE, 1.2),
    Target("bulk", BEST, 0.80),
    Target("bulk", SPLICING_REFERENCE, 0.80),
    Target("huge", BEST, 0.80),
    Target("huge", SPLICING_REFERENCE, 0.80),
    Target("connect", REFERENCE, 1.5),
    Target("connect", "envoy", 0.85),
    Target("endpoints", REFERENCE, 1.25),
)


class Line(NamedTuple):
    """One row of the table. `unit` is empty for a ratio."""

    scenario: str
    figure: str
    limit: float
    found: Interval
    twin: float | None
    unit: str = ""

    @property
    def is_kept(self) -> bool:
        """Is the median within the limit?"""
        return self.found.median <= self.limit


def _costs(samples: Iterable[Sample], scenario: str, peer: str) -> dict[int, float]:
    costs = (
        (sample.turn, sample.cost(SCENARIOS[scenario]))
        for sample in samples
        if sample.scenario == scenario and sample.peer == peer
    )
    return {turn: cost for turn, cost in costs if cost is not None}


def best_peer(samples: Sequence[Sample], scenario: str) -> str | None:
    """Return who costs least, of those that are neither podlb, nor the backend alone, nor HAProxy told to splice."""
    peers = dict.fromkeys(sample.peer for sample in samples if sample.scenario == scenario)
    others = [each for each in peers if each not in (CONTROL.name, SPLICING_REFERENCE) and not each.startswith("podlb")]
    costs = {peer: _costs(samples, scenario, peer) for peer in others}
    return min((peer for peer in others if costs[peer]), key=lambda peer: median(costs[peer].values()), default=None)


def ratio_lines(samples: Sequence[Sample]) -> list[Line]:
    """Return a line for each target that the samples tell of."""
    lines = []
    for scenario, name, limit in TARGETS:
        peer = best_peer(samples, scenario) if name == BEST else name
        beside = _costs(samples, scenario, peer) if peer else {}
        ours, twins = (ratios_by_pair(_costs(samples, scenario, who), beside) for who in (PODLB, TWIN))
        if ours:
            unit = "CPU by byte" if SCENARIOS[scenario].is_by_byte else "CPU per request"
            figure = f"{unit} ÷ {peer}'s" + (", the best peer" if name == BEST else "")
            lines.append(Line(scenario, figure, limit, bootstrap(ours), median(twins) if twins else None))
    return lines


def idle_lines(results: Iterable[idle.IdleMemory]) -> list[Line]:
    """Return a line for each podlb whose memory has a limit. It is measured once."""
    lines = []
    for result in results:
        limit, mib = idle.LIMITS_MIB.get(result.peer), result.with_bytes / 2**20
        if limit is not None:
            figure = f"resident with {result.connections:,} connections, {result.peer}"
            lines.append(Line(idle.NAME, figure, limit, Interval(mib, mib, mib), None, "MiB"))
    return lines


def open_loop_lines(rows: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Return a line for podlb's p99 at a fixed rate."""
    by_peer = {row["peer"]: Interval(**row["ratio"]) for row in rows}
    twin = by_peer[TWIN].median if TWIN in by_peer else None
    return [
        Line(open_loop.NAME, f"p99 ÷ {REFERENCE}'s at the same rate", limit, by_peer[peer], twin)
        for peer, limit in open_loop.LIMITS.items()
        if peer in by_peer
    ]


def lines_of(run: Mapping[str, Any]) -> list[Line]:
    """Return all lines that a run has something for. Raises TargetError."""
    try:
        samples = [Sample(**sample) for sample in run["samples"]]
        results = [idle.IdleMemory(**result) for result in run["idle"]]
        return ratio_lines(samples) + idle_lines(results) + open_loop_lines(run["open_loop"]["summary"])
    except (KeyError, TypeError) as error:
        raise TargetError(f"it is not what bench/run.py --json writes ({error!r})") from None


def _number(value: float, unit: str) -> str:
    return f"{value:.1f}" if unit else f"{value:.2f}"


def markdown(lines: Iterable[Line]) -> str:
    """The table."""
    rows = [
        "| scenario | figure | at most | podlb | 95 % | | `parser: h11` |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        low, high = (_number(value, line.unit) for value in (line.found.low, line.found.high))
        cells = [
            f"`{line.scenario}`",
            line.figure,
            f"{line.limit:g} {line.unit}".rstrip(),
            f"{_number(line.found.median, line.unit)} {line.unit}".rstrip(),
            "" if low == high else f"{low}..{high}",
            "kept" if line.is_kept else "**missed**",
            "" if line.twin is None else _number(line.twin, line.unit),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; return the exit code: 1 if a figure is missed, 2 if there is none."""
    parser = argparse.ArgumentParser(prog="python -m bench.targets", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN.json")
    arguments = parser.parse_args(argv)
    lines: list[Line] = []
    for path in arguments.runs:
        try:
            lines += lines_of(json.loads(path.read_text()))
        except (OSError, ValueError, TargetError) as error:
            print(f"bench: {path}: {error}", file=sys.stderr)
            return 2
    if not lines:
        print("bench: no figure of these runs has a target", file=sys.stderr)
        return 2
    print(markdown(lines))
    return int(not all(line.is_kept for line in lines))


if __name__ == "__main__":
    sys.exit(main())
