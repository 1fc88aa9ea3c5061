"""CORE: the state of a service in one value, for `/stats.json` and `/stats.csv`.

The event loop is held meanwhile, 5 ms at 1,000 endpoints: so little is made of each, and of histograms only the buckets
that are not empty.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from lb import __version__, histogram, metrics
from lb.endpoint import Endpoint, EndpointKey, format_authority
from lb.health.states import AVAILABLE, State
from lb.metrics import Metrics
from lb.service import Service
from lb.stats_model import CLASSES, EndpointStats, Histogram, LogEvent, Stats, Times, Totals

_ZEROS = [0] * 64
"""More than there are counters of an endpoint."""


def collect(service: Service[Any], now: float, *, started: float, events: Sequence[LogEvent] = ()) -> Stats:
    """Return what there is to say of `service`; `now` and `started` are on the clock that it is given."""
    counters = service.metrics
    counters.settle()
    # (A list is read twice as fast as an array.)
    values = counters.values.tolist()
    slots = {key: counters.slot(key) for key in counters.known()}
    overhead = _overhead_block(counters)
    return Stats(
        version=__version__,
        uptime=round(now - started, 3),
        totals=_totals(service, values, list(slots.values())),
        times=Times(
            exchange=_histogram(values, metrics.EXCHANGE_TIME),
            first_byte=_histogram(values, metrics.FIRST_BYTE_TIME),
            connect=_histogram(values, metrics.CONNECT_TIME),
            overhead=None if overhead is None else _histogram(values, overhead),
        ),
        endpoints=_endpoints(service, values, slots, now),
        events=list(events),
    )


# What other modules do not count yet: zeros.


def _overhead_block(counters: Metrics) -> int | None:
    return None


def _client_bytes(counters: Metrics) -> tuple[int, int]:
    """Return the bytes from and to clients."""
    return 0, 0


def _further(
    counters: Metrics, key: EndpointKey, values: Sequence[int], slot: int, idle: int
) -> tuple[int, int, int | None]:
    """Return the stale connections to an endpoint, the active ones, and the place of its histogram."""
    return 0, 0, None


def _totals(service: Service[Any], values: Sequence[int], slots: Sequence[int]) -> Totals:
    counters = service.metrics
    received, sent = _client_bytes(counters)
    return Totals(
        connections=values[metrics.CONNECTIONS],
        connections_open=values[metrics.CONNECTIONS_OPEN],
        received_bytes=received,
        sent_bytes=sent,
        exchanges=values[metrics.EXCHANGES],
        open=counters.exchanges_open,
        ends={word: count for word, count in counters.endings() if count},
        own_replies={"4xx": values[metrics.OWN_REPLIES_4XX], "5xx": values[metrics.OWN_REPLIES_5XX]},
        responses={
            name: sum([values[slot + at] for slot in slots]) for at, name in enumerate(CLASSES, metrics.RESPONSES)
        },
        retries=sum([values[slot + metrics.RETRIES] for slot in slots]),
        waiting=len(service.waiting),
        is_panicking=service.is_panicking,
    )


def _endpoints(
    service: Service[Any], values: list[int], slots: dict[EndpointKey, int], now: float
) -> list[EndpointStats]:
    snapshot = service.snapshot
    states = [service.states.of(endpoint, now) for endpoint in snapshot]
    in_use = [endpoint.weight for endpoint, state in zip(snapshot, states, strict=True) if state.word == AVAILABLE]
    share = 1 / sum(in_use) if sum(in_use) else 0.0
    # Of an endpoint that has no counters yet zeros are read, which stand behind the others.
    zeros = len(values)
    values = values + _ZEROS
    return [
        _endpoint(
            service,
            values,
            slots.get(endpoint.key, zeros),
            endpoint,
            state,
            now,
            endpoint.weight * share if state.word == AVAILABLE else 0.0,
        )
        for endpoint, state in zip(snapshot, states, strict=True)
    ]


def _endpoint(
    service: Service[Any],
    values: Sequence[int],
    slot: int,
    endpoint: Endpoint,
    state: State,
    now: float,
    share: float,
) -> EndpointStats:
    key, name, weight, node, zone, _, _ = endpoint
    word, reason, since, seconds_left = state
    responses = slot + metrics.RESPONSES
    idle = service.pool.count(key)
    stale, active, times = _further(service.metrics, key, values, slot, idle)
    # (By name it would take twice as long.)
    return EndpointStats(
        format_authority(key[1], key[2]),
        name,
        key[0],
        node,
        zone,
        weight,
        word,
        reason,
        round(now - since, 3),
        round(seconds_left, 3) if seconds_left else 0.0,
        share,
        values[slot + metrics.PICKS],
        dict(zip(CLASSES, values[responses : responses + 5], strict=True)),
        values[slot + metrics.RETRIES],
        values[slot + metrics.CONNECTS],
        values[slot + metrics.REUSES],
        stale,
        values[slot + metrics.CONNECT_FAILURES],
        values[slot + metrics.RESETS],
        values[slot + metrics.SET_ASIDES],
        idle,
        active,
        None if times is None else _histogram(values, times),
    )


def _histogram(values: Sequence[int], block: int) -> Histogram:
    counts = values[block : block + histogram.SUM]
    bounds = histogram.BOUNDS
    last = len(bounds)
    return Histogram(
        count=sum(counts),
        sum=values[block + histogram.SUM] / 1e9,
        p50=histogram.quantile(counts, 0.5),
        p95=histogram.quantile(counts, 0.95),
        p99=histogram.quantile(counts, 0.99),
        buckets=[(bounds[at] if at < last else None, count) for at, count in enumerate(counts) if count],
    )


_COUNTERS = ("retries", "connects", "reuses", "stale", "connectFailures", "resets", "setAsides", "idle", "active")
_OF_PROCESS = (
    "uptime",
    "connections",
    "connectionsOpen",
    "receivedBytes",
    "sentBytes",
    "exchanges",
    "open",
    "endedOk",
    "own4xx",
    "own5xx",
    "waiting",
    "overheadP99",
)
COLUMNS = (
    *("endpoint", "name", "uid", "node", "zone", "weight", "state", "reason", "since", "secondsLeft", "expectedShare"),
    *("picks", *CLASSES, *_COUNTERS),
    *("p50", "p95", "p99"),
    *_OF_PROCESS,
)
"""The columns of `/stats.csv`."""


def to_csv(stats: Stats) -> str:
    """Return a table with a header, a row TOTAL and a row for each endpoint; what does not apply is empty.

    In TOTAL the columns of endpoints are the sums of those that are here, but retries, responses and times are those of
    the process.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerow(_total_row(stats))
    rest = ("",) * len(_OF_PROCESS)
    rows.writerows([(*_endpoint_row(one), *rest) for one in stats.endpoints])
    return text.getvalue()


def _endpoint_row(one: EndpointStats) -> tuple[object, ...]:
    return (
        one.endpoint,
        one.name,
        one.uid,
        one.node,
        one.zone,
        one.weight,
        one.state,
        one.reason,
        f"{one.since:.3f}",
        f"{one.seconds_left:.3f}",
        f"{one.expected_share:.6f}",
        one.picks,
        *one.responses.values(),
        *_counters(one),
        *_quantiles(one.times),
    )


def _counters(one: EndpointStats) -> tuple[int, ...]:
    counts = (one.retries, one.connects, one.reuses, one.stale, one.connect_failures, one.resets, one.set_asides)
    return (*counts, one.idle, one.active)


def _quantiles(times: Histogram | None) -> tuple[object, ...]:
    return ("", "", "") if times is None else (times.p50, times.p95, times.p99)


def _total_row(stats: Stats) -> tuple[object, ...]:
    totals, endpoints, overhead = stats.totals, stats.endpoints, stats.times.overhead
    sums = [sum(column) for column in zip(*map(_counters, endpoints), strict=True)] or [0] * len(_COUNTERS)
    return (
        *("TOTAL", "", "", "", ""),
        sum(one.weight for one in endpoints),
        *("", "", "", "", ""),
        sum(one.picks for one in endpoints),
        *totals.responses.values(),
        totals.retries,
        *sums[1:],
        *_quantiles(stats.times.exchange),
        f"{stats.uptime:.3f}",
        totals.connections,
        totals.connections_open,
        totals.received_bytes,
        totals.sent_bytes,
        totals.exchanges,
        totals.open,
        totals.ends.get("ok", 0),
        totals.own_replies["4xx"],
        totals.own_replies["5xx"],
        totals.waiting,
        "" if overhead is None else overhead.p99,
    )
