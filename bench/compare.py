"""What got better or worse from one run of the benchmark to another.

    python bench/compare.py BEFORE.json AFTER.json

The files are those of `bench/run.py --json`. Figures of two runs can't be compared as they are, for the machine was in
another mood: what is compared is the ratio of each contender to HAProxy (in `tcp`, to HAProxy in TCP mode), which has
its own interval in each run. Where the intervals of both runs do not meet, something has changed beyond the noise.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.open_loop import NAME as OPEN_LOOP
from bench.stats import Interval
from bench.table import Column, median_of, range_of, render


class CompareError(Exception):
    """A file can't be compared; the text says why."""


class Change(NamedTuple):
    """The ratio of one contender to the reference in one scenario, in two runs."""

    scenario: str
    peer: str
    before: Interval
    after: Interval

    @property
    def verdict(self) -> str:
        """better or worse beyond the noise, or nothing."""
        if self.after.high < self.before.low:
            return "better"
        if self.after.low > self.before.high:
            return "worse"
        return ""


def read(path: Path) -> dict[tuple[str, str], Interval]:
    """Return the ratios of a run by scenario and contender. Raises CompareError."""
    try:
        run = json.loads(path.read_text())
        rows = [(row["scenario"], row["peer"], row["ratio"]) for row in run["summary"] if row["ratio"] is not None]
        # At a fixed rate it is the ratio of p99. (Runs of earlier versions have none.)
        rows += [(OPEN_LOOP, row["peer"], row["ratio"]) for row in run.get("open_loop", {}).get("summary", ())]
        return {(scenario, peer): Interval(**ratio) for scenario, peer, ratio in rows}
    except OSError as error:
        raise CompareError(f"{path} can't be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CompareError(f"{path} is not what bench/run.py --json writes ({error!r})") from None


def changes(before: Mapping[tuple[str, str], Interval], after: Mapping[tuple[str, str], Interval]) -> list[Change]:
    """Return what both runs measured, in the order of the second."""
    return [Change(*key, before[key], interval) for key, interval in after.items() if key in before]


_COLUMNS: tuple[Column[Change], ...] = (
    Column("scenario", 17, lambda change: change.scenario),
    Column("contender", 16, lambda change: change.peer),
    Column("before", 7, lambda change: median_of(change.before, 2)),
    Column("95 %", 11, lambda change: range_of(change.before, 2)),
    Column("after", 7, lambda change: median_of(change.after, 2)),
    Column("95 %", 11, lambda change: range_of(change.after, 2)),
    Column("", 7, lambda change: change.verdict),
)


def main(argv: Sequence[Any] | None = None) -> int:
    """Print the table; return the exit code: 1 if anything got worse."""
    parser = argparse.ArgumentParser(prog="bench/compare.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("before", type=Path, metavar="BEFORE.json")
    parser.add_argument("after", type=Path, metavar="AFTER.json")
    arguments = parser.parse_args(argv)
    try:
        found = changes(read(arguments.before), read(arguments.after))
    except CompareError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if not found:
        print("bench: the two runs have no contender in common in any scenario", file=sys.stderr)
        return 2
    print("\n".join(render("cost relative to HAProxy's, of both runs", _COLUMNS, found)))
    return int(any(change.verdict == "worse" for change in found))


if __name__ == "__main__":
    sys.exit(main())
