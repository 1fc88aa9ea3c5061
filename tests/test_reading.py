"""A service as it was at one moment."""

from __future__ import annotations

from lb import histogram, metrics
from lb.endpoint import make_endpoint
from lb.reading import read
from tests.test_downstream import Harness

A, B = (make_endpoint(f"10.0.0.{number}", 80, uid=f"u{number}") for number in (1, 2))


def test_what_is_read_does_not_change() -> None:
    harness = Harness(A, B)
    service = harness.proxy.service
    slot = service.metrics.slot(A.key)
    harness.pooled(A)
    service.metrics.values[slot + metrics.PICKS] = 7
    service.connect_failed(B.key, 1.0, trial=0, why="connect refused")
    reading = read(service, 1.25)
    service.metrics.values[slot + metrics.PICKS] = 8
    service.metrics.slot(make_endpoint("10.0.0.3", 80).key)
    service.connected(B.key, 1.25)
    harness.proxy.replace((A,))
    for upstream in service.pool.clear():
        upstream.is_usable = False
    assert reading.values[reading.slots[A.key] + metrics.PICKS] == 7
    assert set(reading.slots) == {A.key, B.key}
    assert reading.endpoints == (A, B)
    assert [(state.word, state.reason) for state in reading.states] == [
        ("available", ""),
        ("set aside", "connect refused"),
    ]
    assert reading.idle == {A.key: 1}
    assert reading.now == 1.25


def test_times_that_wait_are_counted() -> None:
    harness = Harness(A)
    counters = harness.proxy.service.metrics
    counters.endpoint_times[counters.slot(A.key)].observe(0.5)
    reading = read(harness.proxy.service, 1.0)
    place = reading.times[reading.slots[A.key]]
    counters.endpoint_times[counters.slot(A.key)].observe(0.25)
    for _ in range(2):
        reading.settle()
    assert sum(reading.values[place : place + histogram.BLOCK - 1]) == 1
    assert counters.times_of(A.key) == place
