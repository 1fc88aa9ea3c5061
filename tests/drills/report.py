"""What a drill came to: its figures, held against its bounds, as a table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.drills.deliveries import Readings
from tests.drills.endpoints import Ready
from tests.drills.load import Kind, Request


class Slow(NamedTuple):
    """At most `share` of all that were sent may take longer than `seconds`."""

    seconds: float
    share: float


class Bounds(NamedTuple):
    """What a drill may lose. None: that is not what it is about."""

    get: int | None = 0
    """GETs that are not answered with 2xx."""
    post: int | None = 0
    """The same of POSTs."""
    post_per_process: int | None = None
    """Of these, how many may have been given to one and the same backend process."""
    is_cut_apart: bool = False
    """Something dies or falls silent: answers that are cut after their first byte are counted apart."""
    slow: Slow | None = None


@dataclass
class Result:
    """A drill that was played."""

    name: str
    via: str
    sent: int = 0
    answered: int = 0
    """With 2xx, and complete."""
    get_failed: int = 0
    post_failed: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    """What became of the others, by method."""
    truncated: int = 0
    twice: int = 0
    p50: float = math.nan
    p99: float = math.nan
    slowest: float = math.nan
    first_answers: list[float] = field(default_factory=list)
    """For each endpoint that turned ready: the seconds from then to its first answer."""
    faults: list[str] = field(default_factory=list)
    """What is beyond the bounds."""
    proofs: list[str] = field(default_factory=list)
    """What was seen to have happened."""
    skipped: str = ""
    """Why it was not played."""

    @property
    def is_good(self) -> bool:
        return not self.faults


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` of the sorted ones do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def first_answers(turned: Sequence[Ready], requests: Sequence[Request], readings: Readings) -> list[float]:
    """For each endpoint that turned ready: the seconds until the first answer of its pod after that."""
    ended = {request.id: request.ended for request in requests if request.kind is Kind.OK}
    found = []
    for at, key in turned:
        answers = (
            ended[id] - at
            for log, ids in readings.logs.items()
            if log.pod == key.pod
            for id in ids
            if id in ended and ended[id] > at
        )
        if (first := min(answers, default=None)) is not None:
            found.append(first)
    return found


def judge(result: Result, bounds: Bounds, requests: Sequence[Request], readings: Readings) -> None:
    """Fill in the figures of the requests, and what of them is beyond the bounds."""
    good = [request for request in requests if request.kind is Kind.OK]
    bad = [request for request in requests if request.kind is not Kind.OK]
    cut = [request for request in bad if request.kind is Kind.TRUNCATED]
    counted = [request for request in bad if request.kind is not Kind.TRUNCATED or not bounds.is_cut_apart]
    result.sent, result.answered, result.truncated = len(requests), len(good), len(cut)
    result.get_failed = sum(request.method == "GET" for request in counted)
    result.post_failed = len(counted) - result.get_failed
    result.kinds = Counter(f"{request.method} {request.outcome}" for request in bad)
    latencies = sorted(request.latency for request in good)
    result.p50, result.p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
    result.slowest = latencies[-1] if latencies else math.nan
    twice = readings.twice(request.id for request in requests if request.method == "POST")
    result.twice = len(twice)

    faults = result.faults
    if bounds.get is not None and result.get_failed > bounds.get:
        faults.append(f"{result.get_failed} GETs failed, allowed {bounds.get}: {_examples(counted, 'GET')}")
    if bounds.post is not None and result.post_failed > bounds.post:
        faults.append(f"{result.post_failed} POSTs failed, allowed {bounds.post}: {_examples(counted, 'POST')}")
    processes = readings.processes()
    if bounds.post_per_process is not None:
        failed = [request for request in counted if request.method == "POST"]
        shares = Counter(log for request in failed for log in processes.get(request.id, ()))
        for log, count in shares.items():
            if count > bounds.post_per_process:
                faults.append(f"{count} POSTs failed at one process of {log.pod}, allowed {bounds.post_per_process}")
    if twice:
        faults.append(f"{len(twice)} POSTs were delivered twice: {', '.join(twice[:5])}")
    if bounds.slow is not None:
        slow = sum(request.latency > bounds.slow.seconds for request in requests)
        if slow > bounds.slow.share * len(requests):
            faults.append(
                f"{slow} of {len(requests)} took longer than {bounds.slow.seconds:g} s, allowed {bounds.slow.share:.0%}"
            )
        result.proofs.append(f"{slow} took longer than {bounds.slow.seconds:g} s")
    wrong = [request for request in bad if request.kind is Kind.WRONG]
    if wrong:
        faults.append(f"{len(wrong)} answers look complete and are wrong: {_examples(wrong)}")
    if not good:
        faults.append("nothing was answered")
    # Else a request that was delivered twice could be missed.
    unlogged = [request.id for request in good if request.id not in processes]
    if unlogged:
        why = "".join(f"; {reason}" for reason in readings.unread)
        faults.append(f"{len(unlogged)} were answered and are in no log that was read: {', '.join(unlogged[:5])}{why}")


def _examples(requests: Sequence[Request], method: str | None = None) -> str:
    chosen = [request for request in requests if method in (None, request.method)][:4]
    return "; ".join(f"{request.id} {request.outcome} {request.detail}".strip() for request in chosen)


_HEADINGS = (
    *("drill", "via", "sent", "2xx", "GET not", "POST not", "cut", "twice"),
    *("p50 ms", "p99 ms", "slowest ms", "ready→answer ms", "verdict"),
)


def _row(result: Result) -> tuple[str, ...]:
    if result.skipped:
        return (result.name, result.via, *[""] * (len(_HEADINGS) - 3), "skipped")
    firsts = result.first_answers
    return (
        *(result.name, result.via),
        *map(str, (result.sent, result.answered, result.get_failed, result.post_failed)),
        *map(str, (result.truncated, result.twice)),
        *(f"{seconds * 1000:.0f}" for seconds in (result.p50, result.p99, result.slowest)),
        f"{percentile(sorted(firsts), 0.5) * 1000:.0f}, at most {max(firsts) * 1000:.0f}" if firsts else "-",
        "kept" if result.is_good else "NOT KEPT",
    )


def table(results: Sequence[Result]) -> str:
    """All drills, one a line, in Markdown."""
    rows = [_HEADINGS, *map(_row, results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def story(result: Result) -> str:
    """What happened in one drill, for people."""
    lines = [f"  skipped: {result.skipped}"] if result.skipped else []
    lines += [f"  {proof}" for proof in result.proofs]
    if result.kinds:
        lines.append("  not 2xx: " + ", ".join(f"{count} {kind}" for kind, count in sorted(result.kinds.items())))
    lines += [f"  NOT KEPT: {fault}" for fault in result.faults]
    return "\n".join(lines)
