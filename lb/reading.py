"""CORE: all that is told of a service, as it was at one moment: for `/metrics`, `/stats.json` and `/stats.csv`.

A reading is taken in the thread of the event loop (1.5 ms with 1,000 endpoints) and holds copies of what changes, so
that any other thread can take its time with it.
"""

from __future__ import annotations

from array import array
from typing import Any, NamedTuple

from lb.endpoint import EndpointKey, Snapshot
from lb.health.states import State
from lb.histogram import count_times
from lb.service import Service


class Reading(NamedTuple):
    """A service at one moment."""

    now: float
    """On the clock that the service is given, in seconds."""
    values: array[int]
    """The counters, as `Metrics` keeps them; the histograms are complete after `settle`."""
    waiting_times: list[tuple[int, list[float]]]
    """Times that are not in the histograms yet, with the places of those."""
    slots: dict[EndpointKey, int]
    """The endpoints that have counters, those that left included, and the place of theirs."""
    times: dict[int, int]
    """The place of an endpoint's counters → that of its histogram."""
    has_folded: bool
    """Are there endpoints whose counters were folded together?"""
    endpoints: Snapshot
    states: list[State]
    """The state of each of `endpoints`."""
    idle: dict[EndpointKey, int]
    """How many connections idle, to those to whom any does."""
    endings: list[tuple[str, int]]
    failures: list[tuple[str, int, int]]
    """As `Metrics.endings` and `Metrics.attempt_failures` tell them."""
    exchanges_open: int
    waiting: int
    is_panicking: bool

    def settle(self) -> None:
        """Count the times that wait: in the thread that makes something of the reading."""
        for block, times in self.waiting_times:
            count_times(self.values, block, times)
        self.waiting_times.clear()


def read(service: Service[Any], now: float) -> Reading:
    """Take a reading of `service` at `now`."""
    counters = service.metrics
    state_of = service.states.of
    return Reading(
        now=now,
        values=counters.values[:],
        waiting_times=counters.waiting_times(),
        slots=counters.slots(),
        times={slot: times.block for slot, times in counters.endpoint_times.items()},
        has_folded=counters.has_folded,
        endpoints=service.snapshot,
        states=[state_of(endpoint, now) for endpoint in service.snapshot],
        idle=service.pool.counts(),
        endings=list(counters.endings()),
        failures=list(counters.attempt_failures()),
        exchanges_open=counters.exchanges_open,
        waiting=len(service.waiting),
        is_panicking=service.is_panicking,
    )
