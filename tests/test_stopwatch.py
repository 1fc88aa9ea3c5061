"""The times of exchanges, and podlb's own part of them."""

from __future__ import annotations

import pytest

from lb.endpoint import make_endpoint
from lb.errors import EndReason
from lb.exchange import Exchange
from lb.histogram import BATCH, BLOCK, cumulative
from lb.http1.forwarding import Request
from lb.http1.framing import NO_BODY, Framing
from lb.http1.message import RequestHead
from lb.metrics import EXCHANGE_TIME, OVERHEAD_TIME, RECEIVED_BYTES, SENT_BYTES, Metrics, exchange_block
from lb.stopwatch import Stopwatch

A = make_endpoint("10.0.0.1", 80)


class Watch:
    """A stopwatch on a clock that is set."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.now = 100.0
        self.stopwatch = Stopwatch(self.metrics, lambda: self.now)
        self.request = Request(RequestHead(b"GET", b"/", 1, [], []), Framing(NO_BODY), b"")
        self.request.size = 40

    def exchange(self, *, came: float, written: float, answered: float) -> Exchange:
        exchange = Exchange(self.request, came, True)
        exchange.sent = 200
        exchange.own_until = written - exchange.own_since - answered
        return exchange

    def times(self, block: int) -> tuple[int, float]:
        self.metrics.settle()
        return cumulative(self.metrics.values[block : block + BLOCK])[1:]


def test_all_of_a_turn_are_counted_when_it_was_written() -> None:
    watch = Watch()
    # 2 ms until it was written to the endpoint, then 498 ms there.
    watch.stopwatch.answered(watch.exchange(came=99.0, written=99.002, answered=99.5))
    watch.stopwatch.answered(watch.exchange(came=99.1, written=99.101, answered=99.5))
    assert watch.times(EXCHANGE_TIME) == (0, 0.0)
    watch.now = 99.51
    watch.stopwatch.flushed()
    assert watch.times(EXCHANGE_TIME) == (2, pytest.approx(0.51 + 0.41))
    assert watch.times(OVERHEAD_TIME) == (2, pytest.approx(0.012 + 0.011))
    assert watch.metrics.values[SENT_BYTES] == 400
    assert watch.metrics.values[RECEIVED_BYTES] == 80
    watch.stopwatch.flushed()
    assert watch.times(EXCHANGE_TIME)[0] == 2


def test_what_others_kept_waiting_is_not_its_own() -> None:
    watch = Watch()
    exchange = Exchange(watch.request, 99.0, True)
    exchange.own_since += 0.3  # a connect
    exchange.sent = 1
    exchange.own_until = 99.301 - exchange.own_since - 99.9
    watch.stopwatch.answered(exchange)
    watch.now = 99.9
    watch.stopwatch.flushed()
    assert watch.times(OVERHEAD_TIME) == (1, pytest.approx(0.001))
    assert watch.times(EXCHANGE_TIME) == (1, pytest.approx(0.9))


def test_a_head_that_is_held_and_one_that_was_written() -> None:
    watch = Watch()
    watch.stopwatch.head_held(0.001 - 99.5)
    watch.now = 99.502
    watch.stopwatch.flushed()
    assert watch.times(OVERHEAD_TIME) == (1, pytest.approx(0.003))
    watch.stopwatch.head_passed(0.002 - 99.5)
    assert watch.times(OVERHEAD_TIME) == (2, pytest.approx(0.003 + 0.004))
    watch.stopwatch.flushed()
    assert watch.times(OVERHEAD_TIME)[0] == 2


def test_an_endpoint_with_a_histogram_has_its_own() -> None:
    watch = Watch()
    slot = watch.metrics.slot(A.key)
    first = watch.exchange(came=99.0, written=99.0, answered=99.0)
    second = watch.exchange(came=99.0, written=99.0, answered=99.0)
    first.slot, second.slot = slot, slot + 1000
    watch.stopwatch.answered(first)
    watch.stopwatch.answered(second)
    watch.now = 99.25
    watch.stopwatch.flushed()
    first.end_reason = EndReason.OK
    watch.stopwatch.ended(first, 0.5)
    place = watch.metrics.times_of(A.key)
    assert place is not None
    assert watch.times(place) == (2, 0.75)
    assert watch.times(EXCHANGE_TIME) == (1, 0.25)
    assert cumulative(exchange_block(watch.metrics.values, [place]))[1:] == (3, 1.0)
    # What did not end well was not its answer.
    first.end_reason = EndReason.RESET_IN_BODY
    watch.stopwatch.ended(first, 0.5)
    assert watch.times(place) == (2, 0.75)
    assert watch.times(EXCHANGE_TIME) == (2, 0.75)


def test_an_answer_to_nothing_that_was_written() -> None:
    # Below zero it would be no time, and stop the counting of all others.
    watch = Watch()
    watch.stopwatch.answered(watch.exchange(came=99.0, written=0.0, answered=99.5))
    watch.stopwatch.answered(watch.exchange(came=99.0, written=99.0, answered=99.5))
    watch.now = 99.5
    watch.stopwatch.flushed()
    assert watch.times(OVERHEAD_TIME) == (2, 0.0)


def test_what_waits_to_be_counted_is_bounded() -> None:
    watch = Watch()
    for _ in range(BATCH):
        watch.stopwatch.answered(watch.exchange(came=99.0, written=99.0, answered=99.5))
        watch.stopwatch.flushed()
    assert sum(watch.metrics.values[EXCHANGE_TIME : EXCHANGE_TIME + BLOCK - 1]) == BATCH
    assert sum(watch.metrics.values[OVERHEAD_TIME : OVERHEAD_TIME + BLOCK - 1]) == BATCH


def test_a_timer_that_was_early_was_not_late() -> None:
    watch = Watch()
    watch.stopwatch.timer_due = 100.0
    watch.stopwatch.timer_came(99.999)
    watch.stopwatch.timer_came(100.25)
    watch.metrics.settle()
    assert watch.times(watch.metrics.lag_times.block) == (2, 0.25)
