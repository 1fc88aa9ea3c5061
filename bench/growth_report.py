"""What the growth of cost comes to: one point per size, tables in Markdown, and a plain verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

SAME = 1.5
"""Up to so many times more per unit of work is no growth: caches of the processor are smaller than many connections."""


@dataclass(frozen=True)
class Series:
    """What grows, and what its cost is counted in."""

    name: str
    title: str
    grows: str
    """What stands at the x axis, such as `client connections`."""
    sizes: tuple[int, ...]
    costs: str = "CPU µs per request"
    """What stands at the y axis of the cost."""
    is_work: bool = False
    """Is what grows the work itself, such as the bytes of a head? If not, a request is as much work at every size."""
    compared_from: int = 0
    """The first size that the last one is compared with: below it the cost is too small to be measured, or is of
    nothing at all."""


class Sample(NamedTuple):
    """One contender at one size, for a few seconds."""

    series: str
    peer: str
    size: int
    turn: int
    cost: float
    """In the unit of the series."""
    rss_bytes: int
    failed: int
    reached: float | None = None
    """The size as it came to be, where it is a rate."""


class Point(NamedTuple):
    """One contender at one size, the median of all rounds."""

    series: str
    peer: str
    size: int
    cost: float
    rss_mib: float
    failed: int
    reached: float | None


def summarise(samples: Iterable[Sample]) -> list[Point]:
    """One point per series, contender and size, in the order in which they first appear."""
    groups: dict[tuple[str, str, int], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.series, sample.peer, sample.size), []).append(sample)
    return [
        Point(
            *key,
            cost=median(each.cost for each in group),
            rss_mib=median(each.rss_bytes for each in group) / 2**20,
            failed=sum(each.failed for each in group),
            reached=_median_reached(group),
        )
        for key, group in groups.items()
    ]


def _median_reached(group: Iterable[Sample]) -> float | None:
    reached = [each.reached for each in group if each.reached is not None]
    return median(reached) if reached else None


def peers_of(points: Iterable[Point]) -> list[str]:
    """The contenders, in the order in which they first appear."""
    return list(dict.fromkeys(point.peer for point in points))


def markdown(series: Series, points: Sequence[Point]) -> str:
    """The table of one series, to be put into a page as it is."""
    peers = peers_of(points)
    found = {(point.peer, point.size): point for point in points}
    heads = [series.grows, *(f"{peer}: {what}" for peer in peers for what in (series.costs, "MiB"))]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for size in dict.fromkeys(point.size for point in points):
        cells = [f"{size:,}"]
        for peer in peers:
            point = found.get((peer, size))
            cells += ["-", "-"] if point is None else [f"{point.cost:.1f}", f"{point.rss_mib:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _verdict(series: Series, peer: str, its: Sequence[Point], what: str, value: Callable[[Point], float]) -> str:
    """Does the value grow faster than the work, from the first size to the last, or in the last step?

    For memory the work is what there is to be held: at every size that is what grows.
    """
    first, last = its[0], its[-1]
    if value(first) <= 0 or value(last) <= 0:
        return f"{series.name}: {peer}: {what} is too small to say how it grows"
    is_work = series.is_work or what == "memory"

    def excess(before: Point) -> float:
        """By how many times the value has outgrown the work since then."""
        return value(last) / value(before) / (last.size / before.size if is_work else 1.0)

    is_faster = max(excess(first), excess(its[-2])) > SAME
    work = f"{last.size / first.size:,.0f} x" if is_work else "the same"
    said = "GROWS FASTER" if is_faster else "grows no faster"
    return (
        f"{series.name}: {peer}: {what} at {last.size:,} {series.grows} is {value(last) / value(first):,.2f} x "
        f"that at {first.size:,}, the work is {work}: {said} than the work"
    )


def verdicts(series: Series, points: Sequence[Point]) -> list[str]:
    """A line for the CPU and one for the memory of each contender."""
    lines = []
    for peer in peers_of(points):
        its = [point for point in points if point.peer == peer and point.size >= series.compared_from]
        if len(its) < 2:
            lines.append(f"{series.name}: {peer}: measured at one size only, which says nothing of growth")
            continue
        lines.append(_verdict(series, peer, its, "CPU", lambda point: point.cost))
        lines.append(_verdict(series, peer, its, "memory", lambda point: point.rss_mib))
    return lines


def remarks(series: Series, points: Iterable[Point]) -> list[str]:
    """What makes a point worth less than it looks: failed requests, and rates that were not reached."""
    lines = []
    for point in points:
        where = f"{series.name}: {point.peer} at {point.size:,} {series.grows}"
        if point.failed:
            lines.append(f"!!! {where} FAILED: {point.failed} requests or connections")
        if point.reached is not None and point.reached < 0.97 * point.size:
            lines.append(f"{where}: the rate came to {point.reached:,.0f} only")
    return lines
