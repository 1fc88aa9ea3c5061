"""Figures from repeated measurements: medians, ratios by pair, and how sure they are."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A median and the interval that holds it with 95 % confidence."""

    median: float
    low: float
    high: float


def bootstrap(values: Sequence[float], seed: int = 1, resamples: int = RESAMPLES) -> Interval:
    """The median and its percentile bootstrap interval.

    The same values give the same interval: the resampling has a generator of its own. Fewer than three values say
    nothing about their spread; their range is given.
    """
    if not values:
        raise ValueError("no values")
    if len(values) < 3:
        return Interval(median(values), min(values), max(values))
    draw = random.Random(seed)
    medians = sorted(median(draw.choices(values, k=len(values))) for _ in range(resamples))
    tail = round(resamples * 0.025)
    return Interval(median(values), medians[tail], medians[-1 - tail])


def ratios_by_pair(values: Mapping[int, float], reference: Mapping[int, float]) -> list[float]:
    """Value over reference, round by round: both were measured moments apart, on a machine in the same mood."""
    return [value / reference[turn] for turn, value in sorted(values.items()) if turn in reference]
