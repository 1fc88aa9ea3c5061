"""CORE: what `podlb top` shows, made of two successive readings of `/stats.json`.

Rates, shares and quantiles are those of the time between the two. The first reading stands against zeros, which is what
they were when the process began; so does one from a process that began anew.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from lb.errors import EndReason
from lb.histogram import BOUNDS, SUM, quantile
from lb.stats_model import NEW_ENDPOINT, NO_TIMES, NO_TOTALS, EndpointStats, Histogram, LogEvent, Stats, Times

_CLIENTS_DOING = (EndReason.CLIENT_GONE.value, EndReason.BAD_REQUEST.value, EndReason.REQUEST_TIMEOUT.value)
_SHORTEST = 0.001
_AVAILABLE = "available"


class Row(NamedTuple):
    """What is shown of one endpoint. None: nothing happened that would tell."""

    endpoint: str
    pod: str
    node: str
    zone: str
    weight: int
    state: str
    reason: str
    since: float
    """Seconds that it has been in this state."""
    seconds_left: float
    """Seconds until a request may try it again."""
    expected_share: float
    share: float | None
    """Its share of all attempts."""
    rate: float
    """Attempts per second."""
    success: float | None
    """The share of its answers that are not 5xx; what ended without one counts as a failure."""
    is_timed: bool
    """Are the times of this endpoint measured?"""
    p50: float | None
    p99: float | None
    in_flight: int
    reuse: float | None
    """The share of attempts on a connection that was kept."""


class View(NamedTuple):
    """What is shown. Times are in seconds, rates per second, shares from 0 to 1. None: nothing happened."""

    version: str
    uptime: float
    seconds: float
    """The time that the rates are of."""
    is_first: bool
    """Is that the whole time since the start?"""
    is_panicking: bool
    rate: float
    success: float | None
    """The share of exchanges that ended well, of those whose end was not the client's doing."""
    p50: float | None
    p95: float | None
    p99: float | None
    overhead_p99: float | None
    in_flight: int
    waiting: int
    retries: float
    connections: int
    received: float
    sent: float
    failures: tuple[tuple[str, int], ...]
    """How exchanges ended that did not end well, the most frequent first."""
    rows: tuple[Row, ...]
    events: tuple[LogEvent, ...]


_AT_START = Stats(
    version="",
    instance="",
    uptime=0.0,
    totals=NO_TOTALS,
    times=Times(exchange=NO_TIMES, first_byte=NO_TIMES, connect=NO_TIMES),
    endpoints=[],
    events=[],
)


def view(earlier: Stats | None, later: Stats) -> View:
    """Return what is shown when `later` was read after `earlier`."""
    if earlier is None or has_restarted(earlier, later):
        earlier = _AT_START
    seconds = max(later.uptime - earlier.uptime, _SHORTEST)
    before, after = earlier.totals, later.totals
    exchanges = bucket_counts(earlier.times.exchange, later.times.exchange)
    ends = grown(before.ends, after.ends)
    failures = [(_shown(word), count) for word, count in ends.items() if word != "ok" and count]
    return View(
        version=_shown(later.version),
        uptime=later.uptime,
        seconds=seconds,
        is_first=earlier is _AT_START,
        is_panicking=after.is_panicking,
        rate=growth(before.exchanges, after.exchanges) / seconds,
        success=success_share(ends),
        p50=_quantile(exchanges, 0.5),
        p95=_quantile(exchanges, 0.95),
        p99=_quantile(exchanges, 0.99),
        overhead_p99=_quantile(bucket_counts(earlier.times.overhead, later.times.overhead), 0.99),
        in_flight=after.open,
        waiting=after.waiting,
        retries=growth(before.retries, after.retries) / seconds,
        connections=after.connections_open,
        received=growth(before.received_bytes, after.received_bytes) / seconds,
        sent=growth(before.sent_bytes, after.sent_bytes) / seconds,
        failures=tuple(sorted(failures, key=lambda end: (-end[1], end[0]))),
        rows=_rows(earlier.endpoints, later.endpoints, seconds),
        events=tuple(
            LogEvent(_shown(e.time), _shown(e.level), _shown(e.component), _shown(e.message)) for e in later.events
        ),
    )


def has_restarted(earlier: Stats, later: Stats) -> bool:
    """Is `later` from another process than `earlier`?"""
    return later.instance != earlier.instance


def growth(before: int, after: int) -> int:
    """Return by how much a counter grew; one that went down began anew."""
    return after - before if after >= before else after


def grown(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """Return by how much each counter grew."""
    return {name: growth(before.get(name, 0), count) for name, count in after.items()}


def success_share(ends: Mapping[str, int]) -> float | None:
    """Return the share of exchanges that ended well, of those whose end was not the client's doing."""
    counted = {word: count for word, count in ends.items() if word.partition(":")[0] not in _CLIENTS_DOING}
    return _share(counted.get("ok", 0), sum(counted.values()))


def bucket_counts(before: Histogram | None, after: Histogram | None) -> list[int]:
    """Return how many times came into each bucket of `histogram.BOUNDS` between two readings."""
    counts = _counts(after)
    grew = [now - then for now, then in zip(counts, _counts(before), strict=True)]
    return grew if min(grew) >= 0 else counts


def _counts(times: Histogram | None) -> list[int]:
    counts = [0] * SUM
    for bound, count in () if times is None else times.buckets:
        counts[len(BOUNDS) if bound is None else bisect_left(BOUNDS, bound)] += count
    return counts


def _quantile(counts: list[int], share: float) -> float | None:
    return quantile(counts, share) if any(counts) else None


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _rows(earlier: Iterable[EndpointStats], later: Iterable[EndpointStats], seconds: float) -> tuple[Row, ...]:
    known = {(one.endpoint, one.uid): one for one in earlier}
    pairs = [(known.get((one.endpoint, one.uid), NEW_ENDPOINT), one) for one in later]
    total = sum(growth(before.picks, after.picks) for before, after in pairs)
    return tuple(_row(before, after, total, seconds) for before, after in pairs)


def _row(before: EndpointStats, after: EndpointStats, total: int, seconds: float) -> Row:
    picks = growth(before.picks, after.picks)
    responses = grown(before.responses, after.responses)
    answers = sum(responses.values())
    unanswered = growth(before.resets, after.resets) + growth(before.connect_failures, after.connect_failures)
    reuses, connects = growth(before.reuses, after.reuses), growth(before.connects, after.connects)
    times = bucket_counts(before.times, after.times)
    return Row(
        endpoint=_shown(after.endpoint),
        pod=_shown(after.name),
        node=_shown(after.node),
        zone=_shown(after.zone),
        weight=after.weight,
        state=_shown(after.state),
        reason=_shown(after.reason),
        since=after.since,
        seconds_left=after.seconds_left,
        expected_share=after.expected_share,
        share=_share(picks, total),
        rate=picks / seconds,
        success=_share(answers - responses.get("5xx", 0), answers + unanswered),
        is_timed=after.times is not None,
        p50=_quantile(times, 0.5),
        p99=_quantile(times, 0.99),
        in_flight=after.active,
        reuse=_share(reuses, reuses + connects),
    )


def worst_first(rows: Iterable[Row]) -> list[Row]:
    """Return the rows in the order in which they matter: not available, then lowest success, then highest p99."""
    return sorted(
        rows,
        key=lambda row: (row.state == _AVAILABLE, 1.0 if row.success is None else row.success, -(row.p99 or 0.0)),
    )


def _shown(text: str) -> str:
    """Return `text` without what would talk to the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
