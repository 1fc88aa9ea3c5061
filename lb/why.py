"""CORE: why a request went as it did: what is remembered of those that failed and of a few others, and told of one.

Bounded: the last `FAILURES` that failed, the last `OTHERS` of the rest, of each the states of at most `CANDIDATES`
endpoints.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import NamedTuple

from lb.access_log import Entry, escape

FAILURES = 1000
OTHERS = 200
CANDIDATES = 30


class Candidate(NamedTuple):
    """An endpoint as it was when the request ended, or a tenth of a second before."""

    endpoint: str
    name: str
    state: str
    """available, set aside, on trial, not ready"""
    seconds_left: float = 0.0
    reason: str = ""
    """Why it is in that state, if there is anything to say."""


class Record(NamedTuple):
    """What is remembered of a request."""

    entry: Entry
    candidates: tuple[Candidate, ...] = ()
    states: tuple[tuple[str, int], ...] = ()
    """How many endpoints were in each state."""


def candidates_of(everybody: Sequence[Candidate]) -> tuple[tuple[Candidate, ...], tuple[tuple[str, int], ...]]:
    """Return those that are remembered, whoever was out first, and how many there are in each state."""
    states = Counter(candidate.state for candidate in everybody)
    chosen = sorted(everybody, key=lambda candidate: candidate.state == "available")[:CANDIDATES]
    return tuple(chosen), tuple(sorted(states.items()))


class Recorder:
    """Remembers records by the request's id."""

    def __init__(self, failures: int = FAILURES, others: int = OTHERS) -> None:
        self._failures: deque[Record] = deque()
        self._others: deque[Record] = deque()
        self._limits = {True: failures, False: others}
        self._by_id: dict[bytes, Record] = {}

    def add(self, record: Record, *, is_failure: bool) -> None:
        """Remember `record`; the oldest of its kind is forgotten when there are too many."""
        kind = self._failures if is_failure else self._others
        kind.append(record)
        self._by_id[record.entry.request_id] = record
        if len(kind) > self._limits[is_failure]:
            oldest = kind.popleft()
            # (A client may have sent the same id twice.)
            if self._by_id.get(oldest.entry.request_id) is oldest:
                del self._by_id[oldest.entry.request_id]

    def find(self, request_id: bytes) -> Record | None:
        """Return what is remembered of a request, or None."""
        return self._by_id.get(request_id)

    def failures(self, count: int) -> list[Record]:
        """Return the last that failed, the latest first."""
        return [self._failures[-at] for at in range(1, min(count, len(self._failures)) + 1)]


def headline(record: Record) -> str:
    """Return one line that says what became of a request."""
    entry = record.entry
    status = entry.status or "nothing"
    who = f" by {entry.endpoint}" if entry.endpoint and entry.reason == "ok" else ""
    return (
        f"{_text(entry.request_id)} {entry.at} {_text(entry.method)} {_text(entry.target)[:200]}: {status}, "
        f"{entry.reason}{who}, after {entry.total:.3f} s"
    )


def explain(record: Record) -> str:
    """Return the whole story, as lines for people."""
    entry = record.entry
    lines = [headline(record), f"  from {_text(entry.client)}, {entry.received} bytes received, {entry.sent} sent"]
    lines += [f"  +{one.after:.3f} s  {one.endpoint}: {one.outcome}" for one in entry.attempts]
    if entry.queue is not None:
        connect = "" if entry.connect is None else f", connected within {entry.connect:.3f} s"
        lines.append(f"  +{entry.queue:.3f} s  {entry.endpoint}: given the request{connect}")
        if entry.first_byte is not None:
            lines.append(f"  +{entry.queue + entry.first_byte:.3f} s  the first byte of the response")
    lines.append(f"  +{entry.total:.3f} s  {entry.reason}")
    total = sum(count for _, count in record.states)
    states = ", ".join(f"{count} {state}" for state, count in record.states) or "none"
    lines.append(f"  endpoints then: {total} ({states})" if total else "  endpoints then: none")
    for one in record.candidates:
        why = f" ({one.reason})" if one.reason else ""
        left = f", {one.seconds_left:.1f} s left" if one.seconds_left else ""
        lines.append(f"    {one.endpoint} {one.name or '-'}: {one.state}{why}{left}")
    if total > len(record.candidates):
        lines.append(f"    and {total - len(record.candidates)} more")
    return "\n".join(lines) + "\n"


def _text(data: bytes) -> str:
    return escape(data).decode() or "-"
