"""Counters over one flat array."""

from __future__ import annotations

import gc

import pytest

from lb import metrics
from lb.endpoint import Endpoint, make_endpoint
from lb.errors import END_WORDS, EndReason
from lb.metrics import Metrics

A, B, C = (make_endpoint(f"10.0.0.{number}", 80) for number in (1, 2, 3))

PROCESS_COUNTERS = [
    metrics.CONNECTIONS,
    metrics.CONNECTIONS_OPEN,
    metrics.EXCHANGES,
    metrics.OWN_REPLIES_4XX,
    metrics.OWN_REPLIES_5XX,
    metrics.ACCEPT_PAUSES,
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
]


def add(counters: Metrics, endpoint: Endpoint, counter: int, count: int = 1) -> None:
    counters.values[counters.slot(endpoint.key) + counter] += count


def picks(counters: Metrics, *endpoints: Endpoint) -> list[int]:
    return [counters.endpoint(endpoint, metrics.PICKS) for endpoint in endpoints]


def test_everything_starts_at_zero() -> None:
    counters = Metrics()
    assert not any(counters.values)
    assert counters.known() == []
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
    assert counters.known() == [A.key, B.key]


def test_a_counter_of_an_endpoint() -> None:
    counters = Metrics()
    add(counters, A, metrics.PICKS, 3)
    add(counters, A, metrics.RETRIES)
    add(counters, B, metrics.PICKS)
    assert picks(counters, A, B, C) == [3, 1, 0]
    assert counters.endpoint(A, metrics.RETRIES) == 1
    assert counters.endpoint(A, metrics.RESETS) == 0
    # Asking makes no endpoint known.
    assert counters.known() == [A.key, B.key]


def test_the_array_stays_the_same_object_when_endpoints_come() -> None:
    # Whoever counts on the hot path holds on to it.
    counters = Metrics()
    values = counters.values
    for number in range(100):
        counters.slot(make_endpoint("10.0.0.1", number).key)
    assert counters.values is values
    counters.retain(set(), gone_limit=0)
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


class TestRetain:
    def test_what_is_here_is_kept(self) -> None:
        counters = Metrics()
        add(counters, A, metrics.PICKS)
        counters.retain({A.key}, gone_limit=0)
        assert picks(counters, A) == [1]

    def test_what_left_is_kept_for_a_while(self) -> None:
        counters = Metrics()
        add(counters, A, metrics.PICKS)
        counters.retain({B.key})
        assert picks(counters, A) == [1]
        assert counters.known() == [A.key]

    def test_it_goes_on_counting_if_it_comes_back(self) -> None:
        counters = Metrics()
        add(counters, A, metrics.PICKS)
        counters.retain(set())
        counters.retain({A.key})
        add(counters, A, metrics.PICKS)
        counters.retain({A.key}, gone_limit=0)
        assert picks(counters, A) == [2]

    def test_of_those_that_left_the_first_are_forgotten_first(self) -> None:
        counters = Metrics()
        for endpoint in (A, B, C):
            add(counters, endpoint, metrics.PICKS)
        counters.retain({A.key, C.key})
        counters.retain({A.key})
        counters.retain(set(), gone_limit=2)
        assert picks(counters, A, B, C) == [1, 0, 1]
        counters.retain(set(), gone_limit=1)
        assert picks(counters, A, B, C) == [1, 0, 0]

    def test_leaving_again_counts_as_leaving_last(self) -> None:
        counters = Metrics()
        for endpoint in (A, B):
            add(counters, endpoint, metrics.PICKS)
        counters.retain({B.key})
        counters.retain({A.key, B.key})
        counters.retain({A.key})
        counters.retain(set(), gone_limit=1)
        assert picks(counters, A, B) == [1, 0]

    def test_a_place_that_became_free_is_used_again_and_starts_at_zero(self) -> None:
        counters = Metrics()
        for counter in ENDPOINT_COUNTERS:
            add(counters, A, counter)
        slot, size = counters.slot(A.key), len(counters.values)
        counters.retain(set(), gone_limit=0)
        assert counters.known() == []
        assert counters.slot(B.key) == slot
        assert len(counters.values) == size
        assert not any(counters.values)

    def test_the_neighbours_of_a_forgotten_endpoint_lose_nothing(self) -> None:
        counters = Metrics()
        for endpoint in (A, B, C):
            for counter in ENDPOINT_COUNTERS:
                add(counters, endpoint, counter)
        counters.retain({A.key, C.key}, gone_limit=0)
        for endpoint in (A, C):
            assert all(counters.endpoint(endpoint, counter) == 1 for counter in ENDPOINT_COUNTERS)

    def test_by_default_those_of_256_endpoints_that_left_are_kept(self) -> None:
        counters = Metrics()
        endpoints = [make_endpoint("10.0.0.1", port) for port in range(300)]
        for endpoint in endpoints:
            counters.slot(endpoint.key)
        counters.retain(set())
        assert counters.known() == [endpoint.key for endpoint in endpoints[44:]]
