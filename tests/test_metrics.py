"""Counters over one flat array."""

from __future__ import annotations

import gc
from typing import Literal

import pytest

from lb import metrics
from lb.endpoint import Endpoint, make_endpoint
from lb.errors import ATTEMPT_FAILURES, END_WORDS, EndReason
from lb.histogram import BLOCK, cumulative
from lb.metrics import KEEP_COUNT, KEEP_LEAST_SECONDS, KEEP_SECONDS, MOST_WITH_TIMES, Metrics, exchange_block

A, B, C = (make_endpoint(f"10.0.0.{number}", 80) for number in (1, 2, 3))

PROCESS_COUNTERS = [
    metrics.CONNECTIONS,
    metrics.CONNECTIONS_OPEN,
    metrics.EXCHANGES,
    metrics.OWN_REPLIES_4XX,
    metrics.OWN_REPLIES_5XX,
    metrics.ACCEPT_PAUSES,
    metrics.EVICTIONS,
    metrics.RECEIVED_BYTES,
    metrics.SENT_BYTES,
]
ENDPOINT_COUNTERS = [
    metrics.PICKS,
    *(metrics.RESPONSES + status - 1 for status in range(1, 6)),
    metrics.CONNECTS,
    metrics.REUSES,
    metrics.CONNECT_FAILURES,
    metrics.RESETS,
    metrics.RETRIES,
    metrics.SET_ASIDES,
    metrics.STALE,
]


def add(counters: Metrics, endpoint: Endpoint, counter: int, count: int = 1) -> None:
    counters.values[counters.slot(endpoint.key) + counter] += count


def picks(counters: Metrics, *endpoints: Endpoint) -> list[int]:
    return [counters.endpoint(endpoint, metrics.PICKS) for endpoint in endpoints]


def test_everything_starts_at_zero() -> None:
    counters = Metrics()
    assert not any(counters.values)
    assert list(counters.slots()) == []
    assert counters.exchanges_open == 0
    assert all(count == 0 for _, count in counters.endings())
    assert picks(counters, A) == [0]


def test_no_two_counters_share_a_place() -> None:
    counters = Metrics()
    slots = [counters.slot(endpoint.key) for endpoint in (A, B, C)]
    places = PROCESS_COUNTERS + [slot + counter for slot in slots for counter in ENDPOINT_COUNTERS]
    before = list(counters.values)
    for reason in EndReason:
        counters.ended(reason)
    places += [at for at, (old, new) in enumerate(zip(before, counters.values, strict=True)) if old != new]
    assert len(places) == len(set(places)) == len(PROCESS_COUNTERS) + 3 * len(ENDPOINT_COUNTERS) + len(EndReason)
    assert max(places) < len(counters.values)


def test_an_endpoint_keeps_its_place() -> None:
    counters = Metrics()
    slot = counters.slot(A.key)
    counters.slot(B.key)
    assert counters.slot(A.key) == slot
    assert list(counters.slots()) == [A.key, B.key]


def test_a_counter_of_an_endpoint() -> None:
    counters = Metrics()
    add(counters, A, metrics.PICKS, 3)
    add(counters, A, metrics.RETRIES)
    add(counters, B, metrics.PICKS)
    assert picks(counters, A, B, C) == [3, 1, 0]
    assert counters.endpoint(A, metrics.RETRIES) == 1
    assert counters.endpoint(A, metrics.RESETS) == 0
    # Asking makes no endpoint known.
    assert list(counters.slots()) == [A.key, B.key]


def test_the_array_stays_the_same_object_when_endpoints_come() -> None:
    # Whoever counts on the hot path holds on to it.
    counters = Metrics()
    values = counters.values
    for number in range(100):
        counters.slot(make_endpoint("10.0.0.1", number).key)
    assert counters.values is values
    counters.retain(set(), 0.0)
    counters.fold(KEEP_SECONDS)
    assert list(counters.slots()) == []
    assert counters.values is values


def test_counters_are_nothing_that_the_garbage_collector_tracks() -> None:
    assert not any(gc.is_tracked(value) for value in Metrics().values)


def test_a_counter_takes_sixty_four_bits() -> None:
    counters = Metrics()
    counters.values[metrics.EXCHANGES] = 2**64 - 1
    assert counters.values[metrics.EXCHANGES] == 2**64 - 1


@pytest.mark.parametrize("reason", EndReason)
def test_the_end_of_an_exchange_is_counted_by_its_reason(reason: EndReason) -> None:
    counters = Metrics()
    counters.ended(reason)
    counters.ended(reason)
    assert {found: count for found, count in counters.endings() if count} == {reason: 2}
    assert [found for found, _ in counters.endings()] == list(END_WORDS)


def test_the_place_of_the_good_end() -> None:
    counters = Metrics()
    counters.values[metrics.ENDED_OK] += 1
    assert dict(counters.endings())[EndReason.OK] == 1


def test_how_many_exchanges_are_open() -> None:
    counters = Metrics()
    counters.values[metrics.EXCHANGES] += 2 + len(EndReason)
    assert counters.exchanges_open == 2 + len(EndReason)
    for reason in EndReason:
        counters.ended(reason)
    add(counters, A, metrics.PICKS)
    assert counters.exchanges_open == 2


class TestWhatLeft:
    """Endpoints that are gone."""

    def test_what_is_here_is_kept(self) -> None:
        counters = Metrics()
        add(counters, A, metrics.PICKS)
        counters.retain({A.key}, 0.0)
        counters.fold(1e6)
        assert picks(counters, A) == [1]

    def test_it_is_told_of_for_a_while(self) -> None:
        counters = Metrics()
        add(counters, A, metrics.PICKS)
        counters.retain({B.key}, 100.0)
        counters.fold(100.0 + KEEP_SECONDS - 0.1)
        assert picks(counters, A) == [1]
        assert list(counters.slots()) == [A.key]
        assert not counters.has_folded

    def test_then_it_is_folded_with_the_others(self) -> None:
        counters = Metrics()
        for endpoint in (A, B, C):
            for counter in ENDPOINT_COUNTERS:
                add(counters, endpoint, counter)
        counters.retain({B.key}, 100.0)
        counters.fold(100.0 + KEEP_SECONDS)
        assert list(counters.slots()) == [B.key]
        assert counters.has_folded
        for counter in ENDPOINT_COUNTERS:
            assert counters.values[metrics.GONE_SLOT + counter] == 2
            assert counters.endpoint(B, counter) == 1

    def test_it_goes_on_counting_if_it_comes_back(self) -> None:
        counters = Metrics()
        add(counters, A, metrics.PICKS)
        counters.retain(set(), 0.0)
        counters.retain({A.key}, 1.0)
        add(counters, A, metrics.PICKS)
        counters.fold(1e6)
        assert picks(counters, A) == [2]

    def test_leaving_again_counts_from_then(self) -> None:
        counters = Metrics()
        add(counters, A, metrics.PICKS)
        counters.retain(set(), 0.0)
        counters.retain({A.key}, 100.0)
        counters.retain(set(), 200.0)
        counters.fold(199.0 + KEEP_SECONDS)
        assert picks(counters, A) == [1]
        counters.fold(200.0 + KEEP_SECONDS)
        assert picks(counters, A) == [0]

    def test_a_place_in_use_is_not_given_away(self) -> None:
        # An exchange with an endpoint may last longer than the endpoint.
        counters = Metrics()
        add(counters, A, metrics.OPEN)
        slot = counters.slot(A.key)
        counters.retain(set(), 0.0)
        counters.fold(10 * KEEP_SECONDS)
        assert list(counters.slots()) == [A.key]
        assert counters.slot(B.key) != slot
        counters.values[slot + metrics.OPEN] -= 1
        counters.retain({B.key}, 11 * KEEP_SECONDS)
        assert list(counters.slots()) == [B.key]
        assert counters.slot(C.key) == slot

    def test_of_very_many_the_first_are_folded_earlier(self) -> None:
        counters = Metrics()
        endpoints = [make_endpoint("10.0.0.1", port) for port in range(KEEP_COUNT + 44)]
        for endpoint in endpoints:
            add(counters, endpoint, metrics.PICKS)
        counters.retain(set(), 0.0)
        counters.fold(KEEP_LEAST_SECONDS - 0.1)
        assert len(list(counters.slots())) == len(endpoints)
        counters.fold(KEEP_LEAST_SECONDS)
        assert list(counters.slots()) == [endpoint.key for endpoint in endpoints[44:]]
        assert counters.values[metrics.GONE_SLOT + metrics.PICKS] == 44

    def test_a_place_that_became_free_is_used_again_and_starts_at_zero(self) -> None:
        counters = Metrics()
        for counter in set(ENDPOINT_COUNTERS):
            add(counters, A, counter)
        slot, size = counters.slot(A.key), len(counters.values)
        counters.retain(set(), 0.0)
        counters.fold(KEEP_SECONDS)
        assert counters.slot(B.key) == slot
        assert len(counters.values) == size
        assert not any(counters.endpoint(B, counter) for counter in ENDPOINT_COUNTERS)


class TestTimesOfEndpoints:
    """Histograms for each."""

    def observe(self, counters: Metrics, endpoint: Endpoint, seconds: float) -> None:
        counters.endpoint_times[counters.slot(endpoint.key)].observe(seconds)

    def total(self, counters: Metrics) -> tuple[int, float]:
        counters.settle()
        places = [times.block for times in counters.endpoint_times.values()]
        _, total, seconds = cumulative(exchange_block(counters.values, places))
        return total, seconds

    def test_all_together_are_what_the_service_took(self) -> None:
        counters = Metrics()
        self.observe(counters, A, 0.5)
        self.observe(counters, A, 0.25)
        self.observe(counters, B, 1.0)
        counters.exchange_times.observe(2.0)
        assert self.total(counters) == (4, 3.75)
        block = counters.times_of(A.key)
        assert block is not None
        assert cumulative(counters.values[block : block + BLOCK])[1:] == (2, 0.75)
        assert counters.times_of(C.key) is None

    def test_an_endpoint_that_is_folded_takes_nothing_from_the_total(self) -> None:
        counters = Metrics()
        self.observe(counters, A, 0.5)
        self.observe(counters, B, 1.0)
        counters.retain({B.key}, 0.0)
        counters.fold(KEEP_SECONDS)
        assert self.total(counters) == (2, 1.5)
        assert counters.times_of(A.key) is None
        # Its place is free for another.
        size = len(counters.values)
        counters.slot(C.key)
        assert len(counters.values) == size
        assert self.total(counters) == (2, 1.5)

    def test_more_than_a_hundred_have_none(self) -> None:
        counters = Metrics()
        many = [make_endpoint("10.0.0.1", port) for port in range(MOST_WITH_TIMES + 1)]
        for endpoint in many[:-1]:
            counters.slot(endpoint.key)
        counters.retain({endpoint.key for endpoint in many[:-1]}, 0.0)
        self.observe(counters, many[0], 0.5)
        counters.retain({endpoint.key for endpoint in many}, 0.0)
        counters.slot(many[-1].key)
        assert counters.endpoint_times == counters.notes == {}
        assert self.total(counters) == (1, 0.5)
        counters.retain({endpoint.key for endpoint in many[1:]}, 0.0)
        assert len(counters.endpoint_times) == MOST_WITH_TIMES
        assert self.total(counters) == (1, 0.5)

    def test_those_that_left_have_none(self) -> None:
        counters = Metrics()
        size = 0
        for generation in range(50):
            here = [make_endpoint("10.0.0.1", 100 * generation + at) for at in range(10)]
            counters.retain({endpoint.key for endpoint in here}, float(generation))
            for endpoint in here:
                counters.slot(endpoint.key)
                self.observe(counters, endpoint, 0.5)
            assert len(counters.endpoint_times) == len(counters.notes) == 10
            size = size or len(counters.values)
        assert self.total(counters) == (500, 250.0)
        # Of those that are told of for a while only the counters are kept.
        assert len(counters.values) < size + 500 * 16
        left = make_endpoint("10.0.0.1", 1)
        counters.slot(left.key)
        assert counters.times_of(left.key) is None

    def test_what_is_settled_in_turn_is_all_settled_in_the_end(self) -> None:
        counters = Metrics("on")
        many = [make_endpoint("10.0.0.1", port) for port in range(200)]
        for endpoint in many:
            self.observe(counters, endpoint, 0.5)
        most = 0
        for _ in range(17):
            before = len(counters.waiting_times())
            counters.settle_some()
            most = max(most, before - len(counters.waiting_times()))
        assert counters.waiting_times() == []
        assert most < 20

    @pytest.mark.parametrize(("setting", "has_times"), [("off", False), ("on", True)])
    def test_off_and_on(self, setting: Literal["off", "on"], has_times: bool) -> None:
        counters = Metrics(setting)
        many = [make_endpoint("10.0.0.1", port) for port in range(MOST_WITH_TIMES + 1)]
        counters.retain({endpoint.key for endpoint in many}, 0.0)
        for endpoint in many:
            counters.slot(endpoint.key)
        assert len(counters.endpoint_times) == (len(many) if has_times else 0)


def test_failed_attempts_and_those_that_another_followed() -> None:
    counters = Metrics()
    for word in ATTEMPT_FAILURES:
        counters.attempt_failed(word)
    counters.attempt_failed("reset")
    counters.attempt_retried("reset")
    assert {word: (failed, retried) for word, failed, retried in counters.attempt_failures()} == {
        **dict.fromkeys(ATTEMPT_FAILURES, (1, 0)),
        "reset": (2, 1),
    }
