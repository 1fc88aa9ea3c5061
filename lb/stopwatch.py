"""CORE: the times of exchanges, and what of them is podlb's own doing.

The overhead of an exchange is the time that podlb itself added to it: from the turn of the event loop in which its head
came to the head's way into the kernel, towards the endpoint; and from the turn in which the response's head came to
that head's way into the kernel, towards the client. What was spent on waiting for others is none of it: for a connect,
for an endpoint to be there at all, for one that failed. It begins with the turn, not with our looking at what came: a
request that waits for its turn behind others waits for us. (Only our own event loop tells when a turn began. On others
it begins with the look.)

A small response is written at the end of the turn. Its exchange waits here for that, and then all of a turn are counted
together: that costs a third of counting each.
"""

from __future__ import annotations

from collections.abc import Callable

from lb.errors import EndReason
from lb.exchange import Exchange
from lb.histogram import BATCH
from lb.metrics import RECEIVED_BYTES, SENT_BYTES, Metrics

_OK = EndReason.OK


class Stopwatch:
    """Takes the times, in seconds on `clock`."""

    __slots__ = ("_answered", "_clock", "_heads", "_metrics", "_noted", "answered", "timer_due")

    def __init__(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._answered: list[Exchange] = []
        self._heads: list[float] = []
        self.timer_due = 0.0
        """When the next look at how late the loop is was to be. (Handed to the timer it would be an object each.)"""
        self._noted = 0
        """How many times were noted since they were last settled."""
        self.answered = self._answered.append
        """The whole response of an exchange is held until the end of the turn: it has `sent` and `own_until`."""

    def head_held(self, own_until: float) -> None:
        """A response's head is held until the end of the turn. `own_until`: as in `Exchange`."""
        self._heads.append(own_until)

    def head_passed(self, own_until: float) -> None:
        """A response's head was written."""
        self._metrics.overhead_times.observe(max(self._clock() + own_until, 0.0))

    def ended(self, exchange: Exchange, seconds: float) -> None:
        """An exchange took so long that was not `answered`. It is its endpoint's only if that answered all of it."""
        metrics = self._metrics
        times = metrics.endpoint_times.get(exchange.slot) if exchange.end_reason is _OK else None
        (times or metrics.exchange_times).observe(seconds)

    def timer_came(self, now: float) -> None:
        """The timer that was due at `timer_due` is here."""
        self._metrics.lag_times.observe(max(now - self.timer_due, 0.0))

    def flushed(self) -> None:
        """What was held was written."""
        answered = self._answered
        if answered:
            metrics = self._metrics
            clock = self._clock
            now = clock()
            note_overhead = metrics.overhead_times.note
            note_any = metrics.exchange_times.note
            note_of = metrics.notes.get
            sent = received = 0
            for exchange in answered:
                note = note_of(exchange.slot, note_any)
                note(now - exchange.head_received)
                note_overhead(now + exchange.own_until)
                sent += exchange.sent
                received += exchange.request.size
            values = metrics.values
            values[SENT_BYTES] += sent
            values[RECEIVED_BYTES] += received
            self._noted += len(answered)
            answered.clear()
            if self._noted >= BATCH:
                self._noted = 0
                metrics.settle_some()
        if self._heads:
            now = self._clock()
            for own_until in self._heads:
                self._metrics.overhead_times.observe(max(now + own_until, 0.0))
            self._heads.clear()
