"""CORE: log-linear histograms of times, over a part of a flat array of counters.

From 1 µs to 1,000 s the bounds of the buckets lie so close that each is at most an eighth above the one before: 1.0,
1.1 … 2.0, 2.25 … 5.0, 5.5 … 10, and so on in each decade, in 2.3 KiB. What is shorter or longer is in the first or the
last. Bounds are inclusive, as Prometheus' `le` is.

The block of a histogram is one counter for each bucket, and at `SUM` nanoseconds in all.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

_STEPS = [100 + 10 * step for step in range(10)] + [200 + 25 * step for step in range(12)]
_STEPS += [500 + 50 * step for step in range(10)]
BOUNDS = [float(f"{step}e{decade - 2}") for decade in range(-6, 3) for step in _STEPS] + [1000.0]
"""The upper bounds of the buckets, in seconds. Behind them is one more bucket, without a bound."""
SUM = len(BOUNDS) + 1
BLOCK = SUM + 1
"""How many counters a histogram takes."""
COARSE = [float(f"{step}e{decade}") for decade in range(-6, 3) for step in ("1", "2.5", "5")] + [1000.0]
"""The bounds that are told to Prometheus, which would keep a time series for each; all are among `BOUNDS`."""

BATCH = 512
"""So many times are counted together."""
_COARSE_ENDS = [BOUNDS.index(bound) + 1 for bound in COARSE]


class Times:
    """The histogram that stands in `values` at `block`.

    What is observed waits until there are enough to be counted together: sorted, all of one bucket at once. So each
    costs 1,700 instructions, of which 700 are the call; counted by itself it would be 4,600, a tenth of a small GET.
    """

    __slots__ = ("_values", "_waiting", "block", "note")

    def __init__(self, values: array[int], block: int) -> None:
        self._values = values
        self.block = block
        self._waiting: list[float] = []
        self.note = self._waiting.append
        """Count one time, as `observe` does, but leave it to the caller to `settle` now and then."""

    def observe(self, seconds: float) -> None:
        """Count one time, which is not negative."""
        waiting = self._waiting
        waiting.append(seconds)
        if len(waiting) >= BATCH:
            self.settle()

    def settle(self) -> None:
        """Count what waits: before anybody reads."""
        if self._waiting:
            waiting = self._waiting[:]
            self._waiting.clear()
            count_times(self._values, self.block, waiting)

    def waiting(self) -> list[float]:
        """Return a copy of what waits."""
        return self._waiting[:]


def count_times(values: array[int], block: int, times: list[float]) -> None:
    """Count `times` in the histogram at `block`; they are sorted by that. What is below zero counts as zero."""
    times.sort()
    if times and times[0] < 0.0:
        times = [max(seconds, 0.0) for seconds in times]
    at, count = 0, len(times)
    while at < count:
        bucket = bisect_left(BOUNDS, times[at])
        end = bisect_right(times, BOUNDS[bucket], at) if bucket < len(BOUNDS) else count
        values[block + bucket] += end - at
        at = end
    values[block + SUM] += int(sum(times) * 1e9)


def cumulative(block: Sequence[int]) -> tuple[list[int], int, float]:
    """Return how many were at most each of `COARSE`, how many there are in all, and their sum in seconds."""
    found, total, at = [], 0, 0
    for end in _COARSE_ENDS:
        total += sum(block[at:end])
        found.append(total)
        at = end
    return found, total + sum(block[at:SUM]), block[SUM] / 1e9


def quantile(counts: Sequence[int], share: float) -> float:
    """Return the time that a `share` of what was counted did not exceed (0.99 for the 99th percentile), in seconds.

    `counts` are those of the buckets (without the sum), or the difference of two such. Linear within a bucket; 0.0 if
    nothing was counted, the longest bound for what is longer than that.
    """
    total = sum(counts)
    if not total:
        return 0.0
    rank = share * total
    below = 0
    for at, count in enumerate(counts):
        if count and below + count >= rank:
            if at >= len(BOUNDS):
                return BOUNDS[-1]
            low = BOUNDS[at - 1] if at else 0.0
            return low + (BOUNDS[at] - low) * max(rank - below, 0.0) / count
        below += count
    return BOUNDS[-1]
