"""The coarse speed gate: the ratio to HAProxy of this run beside the committed one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.peers import REFERENCE
from bench.proc import BenchError
from bench.report import Row
from bench.stats import Interval

BASELINE = Path(__file__).parent / "results" / "baseline.json"
GATED_PEER = "podlb-epoll"
GATED_SCENARIOS = ("small", "browser")
GATE_PEERS = (REFERENCE, "podlb-epoll", "podlb-uvloop", "podlb-asyncio", "podlb-epoll-h11")
"""What the gate runs when nothing else is asked for: one contender is held to the baseline, none may fail a request."""
TOLERANCE = 1.30
"""How many times the committed ratio still passes: CI machines differ and are noisy, a real loss is larger."""


def _intervals(rows: Iterable[Row]) -> dict[str, Interval]:
    return {row.scenario: row.ratio for row in rows if row.peer == GATED_PEER and row.ratio is not None}


def gated_ratios(rows: Iterable[Row], scenarios: Sequence[str] = GATED_SCENARIOS) -> dict[str, float]:
    """The median ratio of the gated contender by scenario. BenchError when one was not measured."""
    intervals = _intervals(rows)
    missing = [name for name in scenarios if name not in intervals]
    if missing:
        raise BenchError(
            f"no ratio of {GATED_PEER} to {REFERENCE} in: {', '.join(missing)}; "
            f"both contenders must be installed and answer"
        )
    return {name: intervals[name].median for name in scenarios}


def write_baseline(path: Path, rows: Sequence[Row], about: Mapping[str, Any]) -> None:
    """Make this run the one that later runs are held to."""
    gated_ratios(rows)
    ratios = {name: dataclasses.asdict(interval) for name, interval in _intervals(rows).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**about, "peer": GATED_PEER, "reference": REFERENCE, "ratios": ratios}, indent=2)
    path.write_text(text + "\n")


def read_baseline(path: Path) -> dict[str, float]:
    """The committed ratios by scenario. BenchError that tells how to write one when there is none of this contender."""
    try:
        baseline = json.loads(path.read_text())
        if baseline["peer"] == GATED_PEER:
            return {name: float(baseline["ratios"][name]["median"]) for name in GATED_SCENARIOS}
        problem = f"is the baseline of {baseline['peer']}, not of {GATED_PEER}"
    except FileNotFoundError:
        problem = "is missing"
    except (ValueError, KeyError, TypeError) as error:
        problem = f"is not a baseline ({error!r})"
    raise BenchError(f"{path} {problem}; write it on a quiet machine with: python bench/run.py --write-baseline")


def too_slow(ratios: Mapping[str, float], baseline: Mapping[str, float]) -> list[str]:
    """The scenarios whose ratio is worse than the tolerance allows."""
    return [name for name, ratio in ratios.items() if ratio > baseline[name] * TOLERANCE]


def better_of(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    """Scenario by scenario the lower ratio of two runs."""
    return {name: min(ratio, second.get(name, ratio)) for name, ratio in first.items()}


def verdict(ratios: Mapping[str, float], baseline: Mapping[str, float]) -> str:
    """One line per scenario: measured, committed, allowed, passed or not."""
    failed = too_slow(ratios, baseline)
    return "\n".join(
        f"gate {name}: {GATED_PEER} at {ratio:.2f} x {REFERENCE}; committed {baseline[name]:.2f}, "
        f"allowed {baseline[name] * TOLERANCE:.2f}: {'TOO SLOW' if name in failed else 'passed'}"
        for name, ratio in ratios.items()
    )
