"""Long runs of made-up inputs: how long, from which seed, and how a failing one is made small and told.

`FUZZ_SEED=12 pytest …` starts from that seed; with `FUZZ_INPUT=345` as well, that input alone is run.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random, SystemRandom

import pytest

SHARES = 3
"""Runs that share a minute of `make test-all` and ten minutes of `make soak`."""

DURATIONS = [
    pytest.param(1.0, id="short"),
    pytest.param(60.0 / SHARES, id="minute", marks=[pytest.mark.slow, pytest.mark.timeout(180)]),
    pytest.param(600.0 / SHARES, id="soak", marks=[pytest.mark.soak, pytest.mark.timeout(1200)]),
]


class Run:
    """Numbers of inputs, each with a `Random` of its own, until the time is over."""

    def __init__(self, seconds: float, name: str) -> None:
        self.name = name
        self._seconds = seconds
        given = os.environ.get("FUZZ_SEED")
        # In CI always the same ones, but for the number that there is time for.
        fixed = "0" if os.environ.get("CI") == "true" else str(SystemRandom().randrange(10**9))
        self.seed = given or fixed
        only = os.environ.get("FUZZ_INPUT")
        self._only = int(only) if only and given else None
        self.number = 0
        self.counts: Counter[str] = Counter()

    @property
    def is_single(self) -> bool:
        """Is one input run again, which says nothing about all of them?"""
        return self._only is not None

    def random(self, number: int) -> Random:
        """Return what input `number` is drawn from."""
        return Random(f"{self.seed}/{self.name}/{number}")

    def inputs(self, *, first: int = 0, share: float = 1.0) -> Iterator[tuple[int, Random]]:
        """Give one input after the other, from number `first` on, for `share` of the time."""
        if self._only is not None:
            self.number = self._only
            yield self._only, self.random(self._only)
            return
        number = first
        end = time.monotonic() + self._seconds * share
        while time.monotonic() < end:
            self.number = number
            self.counts["inputs"] += 1
            yield number, self.random(number)
            number += 1

    def report(self) -> None:
        """Print what was run: `make soak` shows it at once."""
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        print(f"\n{self.name}: seed {self.seed}: {counts}", flush=True)

    def fail(self, data: bytes, problem: Callable[[bytes], str | None], applied: list[str], *, tries: int) -> None:
        """Fail with the smallest input that still has a problem, found with at most `tries` tries."""
        first = problem(data) or "not seen again when it was tried alone"
        small = minimised(data, lambda smaller: problem(smaller) is not None, tries=tries)
        pytest.fail(
            f"{self.name}: input {self.number} of seed {self.seed} (bent by: {', '.join(applied) or 'nothing'})\n"
            f"{first}\nas small as it gets: {small!r}\n{problem(small)}\n"
            f"again: FUZZ_SEED={self.seed} FUZZ_INPUT={self.number}",
            pytrace=False,
        )


def minimised(data: bytes, fails: Callable[[bytes], bool], *, tries: int) -> bytes:
    """Return a smaller input that still fails: ever smaller slices are left out as long as it does."""
    size = len(data) // 2
    while size and tries > 0:
        at = 0
        while at < len(data) and tries > 0:
            smaller = data[:at] + data[at + size :]
            tries -= 1
            if fails(smaller):
                data = smaller
            else:
                at += size
        size //= 2
    return data
