"""SHELL: /metrics, rendered by prometheus_client from our own array. Imported at the first scrape.

`render` makes text of a reading, in a thread of its own.

The samples of endpoints we write ourselves, behind the headers that prometheus_client makes: it takes 13 µs a sample,
which is 0.3 s with 1,000 endpoints, and this 0.5. That both say the same is tested.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from prometheus_client import ProcessCollector, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from lb import __version__, histogram, metrics
from lb.discovery.status import SyncStatus
from lb.endpoint import Endpoint, EndpointKey, format_authority
from lb.errors import BASE_WORDS
from lb.health.states import AVAILABLE, State
from lb.reading import Reading

_PER_ENDPOINT = (
    ("podlb_picks", "Attempts that went to the endpoint.", metrics.PICKS),
    ("podlb_upstream_connects", "Connections made to the endpoint.", metrics.CONNECTS),
    ("podlb_upstream_reuses", "Attempts on a connection that was kept from an earlier one.", metrics.REUSES),
    ("podlb_upstream_stale", "Connections that were kept and turned out to be dead when used.", metrics.STALE),
    ("podlb_upstream_connect_failures", "Connects that failed.", metrics.CONNECT_FAILURES),
    ("podlb_upstream_resets", "Connections that died before the response was complete.", metrics.RESETS),
    ("podlb_retries", "Attempts that followed a failed one and went to the endpoint.", metrics.RETRIES),
    ("podlb_set_asides", "Times the endpoint was set aside: a connect failed, or it went silent.", metrics.SET_ASIDES),
)
_TIMES = (
    (
        "podlb_overhead_seconds",
        "What podlb itself added to exchanges, up to the head of the response.",
        metrics.OVERHEAD_TIME,
    ),
    (
        "podlb_first_byte_seconds",
        "From the request's head, sent, to the response's; of responses that did not come in one piece.",
        metrics.FIRST_BYTE_TIME,
    ),
    ("podlb_upstream_connect_seconds", "Of connects that succeeded.", metrics.CONNECT_TIME),
    ("podlb_loop_lag_seconds", "How late a timer of the event loop was, looked at every 0.5 s.", metrics.LAG_TIME),
)
_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
_BOUNDS = [f"{bound:g}" for bound in histogram.COARSE]
GONE = "gone"
"""What stands for the address of endpoints that left long ago and are counted together."""


class Scrape(NamedTuple):
    """What there is to tell at one moment."""

    reading: Reading
    dropped_lines: int = 0
    """How many lines of logs were dropped so far."""
    sync: SyncStatus | None = None


class _Process(Collector):
    """What is told of the whole process."""

    def __init__(self, scrape: Scrape) -> None:
        self._scrape = scrape
        self._reading = scrape.reading

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family."""
        yield from self._counters()
        yield from self._times()
        if self._scrape.sync is not None:
            yield from self._discovery(self._scrape.sync)

    def _counters(self) -> Iterator[Metric]:
        scrape, reading = self._scrape, self._reading
        values = reading.values
        info = GaugeMetricFamily("podlb_build_info", "The version that runs.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info

        def counter(name: str, text: str, value: float) -> Metric:
            return CounterMetricFamily(f"podlb_{name}", text, value=value)

        def gauge(name: str, text: str, value: float) -> Metric:
            return GaugeMetricFamily(f"podlb_{name}", text, value=value)

        yield counter("connections", "Client connections accepted.", values[metrics.CONNECTIONS])
        yield gauge("connections_open", "Client connections that are open.", values[metrics.CONNECTIONS_OPEN])
        yield counter(
            "received_bytes",
            "Requests that were read, heads and bodies; bytes of tunnels.",
            values[metrics.RECEIVED_BYTES],
        )
        yield counter("sent_bytes", "Responses, heads and bodies; bytes of tunnels.", values[metrics.SENT_BYTES])
        yield counter("exchanges", "Requests that came in.", values[metrics.EXCHANGES])
        yield gauge("exchanges_open", "Requests that are being served.", reading.exchanges_open)
        yield gauge("waiting", "Requests that wait for an endpoint.", reading.waiting)
        yield counter(
            "evictions",
            "Client connections without an exchange that were closed to make room for new ones.",
            values[metrics.EVICTIONS],
        )
        yield counter(
            "accept_pauses",
            "Times accepting was paused because maxConnections were open.",
            values[metrics.ACCEPT_PAUSES],
        )
        yield counter(
            "request_heads_read",
            "Request heads that had to be read: that were not remembered, the same to the byte.",
            values[metrics.REQUEST_HEADS_READ],
        )
        yield counter(
            "response_heads_read",
            "Response heads that had to be read.",
            values[metrics.RESPONSE_HEADS_READ],
        )
        yield counter("log_lines_dropped", "Lines of logs that nobody took in time.", scrape.dropped_lines)
        own = CounterMetricFamily("podlb_own_replies", "Responses made by podlb itself.", labels=["class"])
        own.add_metric(["4xx"], values[metrics.OWN_REPLIES_4XX])
        own.add_metric(["5xx"], values[metrics.OWN_REPLIES_5XX])
        yield own
        ends = CounterMetricFamily("podlb_exchange_ends", "Requests that ended, by end reason.", labels=["reason"])
        for word, count in reading.endings:
            # What can be bad about messages is a long list, of which nearly nothing ever happens.
            if count or word in BASE_WORDS:
                ends.add_metric([word], count)
        yield ends
        failed = CounterMetricFamily("podlb_failed_attempts", "Attempts that failed, by how.", labels=["reason"])
        retried = CounterMetricFamily(
            "podlb_retried_attempts", "Attempts that failed and were followed by another, by how.", labels=["reason"]
        )
        for word, failures, retries in reading.failures:
            failed.add_metric([word], failures)
            retried.add_metric([word], retries)
        yield failed
        yield retried

    def _times(self) -> Iterator[Metric]:
        reading = self._reading
        values = reading.values
        yield _histogram(
            "podlb_exchange_seconds",
            "From a request head to the end of the exchange; not tunnels.",
            metrics.exchange_block(values, reading.times.values()),
        )
        for name, text, block in _TIMES:
            yield _histogram(name, text, values[block : block + histogram.BLOCK])

    def _discovery(self, sync: SyncStatus) -> Iterator[Metric]:
        def gauge(name: str, text: str, value: float) -> Metric:
            return GaugeMetricFamily(f"podlb_discovery_{name}", text, value=value)

        if sync.last_sync is not None:
            age = max(self._reading.now - sync.last_sync, 0.0)
            yield gauge("last_sync_age_seconds", "Since the API server last said anything.", age)
        restarts = CounterMetricFamily(
            "podlb_discovery_watch_restarts", "Watches that ended and began anew, by reason.", labels=["reason"]
        )
        for reason, count in sorted(sync.watch_restarts.items()):
            restarts.add_metric([reason], count)
        yield restarts
        yield CounterMetricFamily("podlb_discovery_relists", "Lists after the first one.", value=sync.relists)
        states = GaugeMetricFamily(
            "podlb_discovery_endpoints", "Endpoints of the Service by their state.", labels=["state"]
        )
        for state, count in sync.states.items():
            states.add_metric([state], count)
        yield states
        yield gauge("watch_forbidden", "1 if the permission to watch is missing.", float(sync.is_watch_forbidden))
        taken = sync.snapshot_taken
        age = 0.0 if taken is None else max(self._reading.now - taken, 0.0)
        yield gauge("snapshot_age_seconds", "Age of the snapshot file that serves; 0: none does.", age)
        yield gauge(
            "panic", "1 if endpoints are used that are not ready, since none is.", float(self._reading.is_panicking)
        )


def _histogram(name: str, text: str, block: Sequence[int]) -> Metric:
    counts, total, seconds = histogram.cumulative(block)
    family = HistogramMetricFamily(name, text)
    buckets = [(bound, float(count)) for bound, count in zip(_BOUNDS, counts, strict=True)]
    family.add_metric([], [*buckets, ("+Inf", float(total))], seconds)
    return family


def endpoint_families(reading: Reading) -> Iterator[tuple[Metric, list[str]]]:
    """Yield for each family of endpoints its header, as a family without samples, and its samples as lines.

    (A tuple for each sample would have the garbage collector look at all of them, while the loop waits.)
    """
    values = reading.values
    known = [(_labels(key), slot) for key, slot in reading.slots.items()]
    if reading.has_folded:
        known.append((_labels(("", GONE, 0)), metrics.GONE_SLOT))
    for name, text, offset in _PER_ENDPOINT:
        yield (
            CounterMetricFamily(name, text),
            [f"{name}_total{{{labels}}} {values[slot + offset]}" for labels, slot in known],
        )
    yield (
        CounterMetricFamily("podlb_responses", "Responses of the endpoint, by status class."),
        [
            f'podlb_responses_total{{{labels},class="{name}"}} {values[slot + metrics.RESPONSES + at]}'
            for labels, slot in known
            for at, name in enumerate(_CLASSES)
        ],
    )
    rows = [_Row(*both, reading) for both in zip(reading.endpoints, reading.states, strict=True)]
    yield (
        GaugeMetricFamily("podlb_pool_idle", "Idle connections to the endpoint."),
        [f"podlb_pool_idle{{{row.labels}}} {row.idle}" for row in rows],
    )
    yield (
        GaugeMetricFamily("podlb_pool_active", "Connections to the endpoint that are made or in use."),
        [f"podlb_pool_active{{{row.labels}}} {row.active}" for row in rows],
    )
    yield (
        GaugeMetricFamily("podlb_endpoint_weight", "Its share of the requests, relative to the others'."),
        [f"podlb_endpoint_weight{{{row.labels}}} {row.weight}" for row in rows],
    )
    yield (
        GaugeMetricFamily("podlb_endpoint_available", "1 if the endpoint gets picks, 0 if not."),
        [f"podlb_endpoint_available{{{row.labels}}} {int(row.state == AVAILABLE)}" for row in rows],
    )
    yield (
        GaugeMetricFamily("podlb_endpoint_state", "1, for the state that the endpoint is in."),
        [f'podlb_endpoint_state{{{row.labels},state="{row.state}"}} 1' for row in rows],
    )
    if reading.times:
        yield (
            HistogramMetricFamily("podlb_endpoint_seconds", "As podlb_exchange_seconds, by endpoint."),
            [
                line
                for labels, slot in known
                if slot in reading.times
                for line in _endpoint_histogram(labels, values, reading.times[slot])
            ],
        )


class _Row:
    """An endpoint of now."""

    def __init__(self, endpoint: Endpoint, state: State, reading: Reading) -> None:
        key = endpoint.key
        slot = reading.slots.get(key)
        self.labels = _labels(key)
        self.weight = endpoint.weight
        self.state = state.word
        self.idle = reading.idle.get(key, 0)
        self.active = 0 if slot is None else max(reading.values[slot + metrics.OPEN] - self.idle, 0)


def _endpoint_histogram(labels: str, values: array[int], block: int) -> list[str]:
    counts, total, seconds = histogram.cumulative(values[block : block + histogram.BLOCK])
    name = "podlb_endpoint_seconds"
    return [
        *[f'{name}_bucket{{{labels},le="{bound}"}} {count}' for bound, count in zip(_BOUNDS, counts, strict=True)],
        f'{name}_bucket{{{labels},le="+Inf"}} {total}',
        f"{name}_count{{{labels}}} {total}",
        f"{name}_sum{{{labels}}} {seconds}",
    ]


def _labels(key: EndpointKey) -> str:
    uid, host, port = key
    authority = format_authority(host, port) if port else host
    return f'endpoint="{_escape(authority)}",uid="{_escape(uid)}"'


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self._families


_END = b"# EOF\n"
"""Ends a page in OpenMetrics."""


def render(scrape: Scrape, accept: str) -> tuple[bytes, str]:
    """Return the body and its content type, in the format that the Accept field asks for."""
    scrape.reading.settle()
    encode, content_type = exposition.choose_encoder(accept)

    def page(*collectors: Collector) -> bytes:
        registry = CollectorRegistry(auto_describe=False)
        for collector in collectors:
            registry.register(collector)
        return encode(registry)

    whole = page(_Process(scrape), ProcessCollector(registry=None))
    is_open_metrics = whole.endswith(_END)
    parts = [whole.removesuffix(_END)]
    for family, lines in endpoint_families(scrape.reading):
        parts.append(page(_Families([family])).removesuffix(_END))
        if lines:
            parts.append("\n".join([*lines, ""]).encode())
    if is_open_metrics:
        parts.append(_END)
    return b"".join(parts), content_type


__all__ = ["Scrape", "render"]
