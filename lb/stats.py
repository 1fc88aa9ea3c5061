"""CORE: the state of a service in one value, for `/stats.json` and `/stats.csv`.

Of histograms only the buckets that are not empty are told.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from lb import __version__, histogram, metrics
from lb.endpoint import Endpoint, format_authority
from lb.health.states import AVAILABLE, State
from lb.metrics import exchange_block
from lb.reading import Reading
from lb.stats_model import CLASSES, EndpointStats, Histogram, LogEvent, Stats, Times, Totals

_ZEROS = [0] * 64
"""More than there are counters of an endpoint."""


def collect(reading: Reading, *, started: float, instance: str = "", events: Sequence[LogEvent] = ()) -> Stats:
    """Return what there is to say of a service; `started` is on the clock of the reading."""
    reading.settle()
    # (A list is read twice as fast as an array.)
    values = reading.values.tolist()
    exchanges = exchange_block(values, reading.times.values())
    return Stats(
        version=__version__,
        instance=instance,
        uptime=round(reading.now - started, 3),
        totals=_totals(reading, values),
        times=Times(
            exchange=_histogram(exchanges, 0),
            first_byte=_histogram(values, metrics.FIRST_BYTE_TIME),
            connect=_histogram(values, metrics.CONNECT_TIME),
            overhead=_histogram(values, metrics.OVERHEAD_TIME),
        ),
        endpoints=_endpoints(reading, values),
        events=list(events),
    )


def _totals(reading: Reading, values: Sequence[int]) -> Totals:
    slots = [*reading.slots.values(), metrics.GONE_SLOT]
    return Totals(
        connections=values[metrics.CONNECTIONS],
        connections_open=values[metrics.CONNECTIONS_OPEN],
        received_bytes=values[metrics.RECEIVED_BYTES],
        sent_bytes=values[metrics.SENT_BYTES],
        exchanges=values[metrics.EXCHANGES],
        open=reading.exchanges_open,
        ends={word: count for word, count in reading.endings if count},
        own_replies={"4xx": values[metrics.OWN_REPLIES_4XX], "5xx": values[metrics.OWN_REPLIES_5XX]},
        responses={
            name: sum([values[slot + at] for slot in slots]) for at, name in enumerate(CLASSES, metrics.RESPONSES)
        },
        retries=sum([values[slot + metrics.RETRIES] for slot in slots]),
        waiting=reading.waiting,
        is_panicking=reading.is_panicking,
    )


def _endpoints(reading: Reading, values: list[int]) -> list[EndpointStats]:
    both = list(zip(reading.endpoints, reading.states, strict=True))
    in_use = [endpoint.weight for endpoint, state in both if state.word == AVAILABLE]
    share = 1 / sum(in_use) if sum(in_use) else 0.0
    # Of an endpoint that has no counters yet zeros are read, which stand behind the others.
    zeros = len(values)
    values = values + _ZEROS
    return [
        _endpoint(
            reading,
            values,
            reading.slots.get(endpoint.key, zeros),
            endpoint,
            state,
            endpoint.weight * share if state.word == AVAILABLE else 0.0,
        )
        for endpoint, state in both
    ]


def _endpoint(
    reading: Reading,
    values: Sequence[int],
    slot: int,
    endpoint: Endpoint,
    state: State,
    share: float,
) -> EndpointStats:
    key, name, weight, node, zone, _, _ = endpoint
    word, reason, since, seconds_left = state
    responses = slot + metrics.RESPONSES
    idle = reading.idle.get(key, 0)
    times = reading.times.get(slot)
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
        round(reading.now - since, 3),
        round(seconds_left, 3) if seconds_left else 0.0,
        share,
        values[slot + metrics.PICKS],
        dict(zip(CLASSES, values[responses : responses + 5], strict=True)),
        values[slot + metrics.RETRIES],
        values[slot + metrics.CONNECTS],
        values[slot + metrics.REUSES],
        values[slot + metrics.STALE],
        values[slot + metrics.CONNECT_FAILURES],
        values[slot + metrics.RESETS],
        values[slot + metrics.SET_ASIDES],
        idle,
        max(values[slot + metrics.OPEN] - idle, 0),
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
    return ("", "", "") if times is None or not times.count else (times.p50, times.p95, times.p99)


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
        "" if overhead is None or not overhead.count else overhead.p99,
    )
