"""SHELL: /metrics, rendered by prometheus_client from our own array. Imported at the first scrape."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from lb import __version__, histogram, metrics
from lb.discovery.status import SyncStatus
from lb.endpoint import EndpointKey, format_authority
from lb.errors import BASE_WORDS
from lb.service import Service
from lb.upstream import Upstream

_PER_ENDPOINT = (
    ("podlb_picks", "Times the policy picked the endpoint for an attempt.", metrics.PICKS),
    ("podlb_upstream_connects", "Connections made to the endpoint.", metrics.CONNECTS),
    ("podlb_upstream_reuses", "Attempts on a connection that was kept from an earlier one.", metrics.REUSES),
    ("podlb_upstream_connect_failures", "Connects that were refused or timed out.", metrics.CONNECT_FAILURES),
    ("podlb_upstream_resets", "Connections that died before the response was complete.", metrics.RESETS),
    ("podlb_retries", "Attempts that followed a failed one and went to the endpoint.", metrics.RETRIES),
    ("podlb_set_asides", "Times the endpoint was set aside: a connect failed, or it went silent.", metrics.SET_ASIDES),
)
_TIMES = (
    ("podlb_exchange_seconds", "From a request head to the end of the exchange; not tunnels.", metrics.EXCHANGE_TIME),
    (
        "podlb_first_byte_seconds",
        "From the request's head, sent, to the response's; of responses that did not come in one piece.",
        metrics.FIRST_BYTE_TIME,
    ),
    ("podlb_upstream_connect_seconds", "Of connects that succeeded.", metrics.CONNECT_TIME),
)
_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")


class ServiceCollector(Collector):
    """Reads the counters of one service."""

    def __init__(self, service: Service[Upstream], now: float, sync: SyncStatus | None) -> None:
        self._service = service
        self._now = now
        self._sync = sync

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family."""
        yield from self._process()
        yield from self._times()
        yield from self._endpoints()
        if self._sync is not None:
            yield from self._discovery(self._sync)

    def _process(self) -> Iterator[Metric]:
        service = self._service
        values = service.metrics.values
        info = GaugeMetricFamily("podlb_build_info", "The version that runs.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        yield CounterMetricFamily(
            "podlb_connections", "Client connections accepted.", value=values[metrics.CONNECTIONS]
        )
        yield GaugeMetricFamily(
            "podlb_connections_open", "Client connections that are open.", value=values[metrics.CONNECTIONS_OPEN]
        )
        yield CounterMetricFamily("podlb_exchanges", "Requests that came in.", value=values[metrics.EXCHANGES])
        yield GaugeMetricFamily(
            "podlb_exchanges_open", "Requests that are being served.", value=service.metrics.exchanges_open
        )
        yield GaugeMetricFamily("podlb_waiting", "Requests that wait for an endpoint.", value=len(service.waiting))
        yield CounterMetricFamily(
            "podlb_evictions",
            "Client connections without an exchange that were closed to make room for new ones.",
            value=values[metrics.EVICTIONS],
        )
        yield CounterMetricFamily(
            "podlb_accept_pauses",
            "Times accepting was paused because maxConnections were open.",
            value=values[metrics.ACCEPT_PAUSES],
        )
        own = CounterMetricFamily("podlb_own_replies", "Responses made by podlb itself.", labels=["class"])
        own.add_metric(["4xx"], values[metrics.OWN_REPLIES_4XX])
        own.add_metric(["5xx"], values[metrics.OWN_REPLIES_5XX])
        yield own
        ends = CounterMetricFamily("podlb_exchange_ends", "Requests that ended, by end reason.", labels=["reason"])
        for word, count in service.metrics.endings():
            # What can be bad about messages is a long list, of which nearly nothing ever happens.
            if count or word in BASE_WORDS:
                ends.add_metric([word], count)
        yield ends

    def _times(self) -> Iterator[Metric]:
        self._service.metrics.settle()
        for name, text, block in _TIMES:
            counts, total, seconds = histogram.cumulative(self._service.metrics.values, block)
            buckets = [(f"{bound:g}", float(count)) for bound, count in zip(histogram.COARSE, counts, strict=True)]
            family = HistogramMetricFamily(name, text)
            family.add_metric([], [*buckets, ("+Inf", float(total))], seconds)
            yield family

    def _endpoints(self) -> Iterator[Metric]:
        service = self._service
        counters = service.metrics
        keys = counters.known()
        labels = [(key, _labels(key)) for key in keys]
        for name, text, offset in _PER_ENDPOINT:
            family = CounterMetricFamily(name, text, labels=["endpoint", "uid"])
            for key, label in labels:
                family.add_metric(label, counters.values[counters.slot(key) + offset])
            yield family
        requests = CounterMetricFamily(
            "podlb_responses", "Responses of the endpoint, by status class.", labels=["endpoint", "uid", "class"]
        )
        for key, label in labels:
            for at, name in enumerate(_CLASSES):
                requests.add_metric([*label, name], counters.values[counters.slot(key) + metrics.RESPONSES + at])
        yield requests
        idle = GaugeMetricFamily("podlb_pool_idle", "Idle connections to the endpoint.", labels=["endpoint", "uid"])
        state = GaugeMetricFamily(
            "podlb_endpoint_available", "1 if the endpoint gets picks, 0 if not.", labels=["endpoint", "uid"]
        )
        for endpoint in service.snapshot:
            label = _labels(endpoint.key)
            idle.add_metric(label, service.pool.count(endpoint.key))
            state.add_metric(
                label, float(endpoint.ready and service.set_aside.state(endpoint, self._now)[0] == "available")
            )
        yield idle
        yield state

    def _discovery(self, sync: SyncStatus) -> Iterator[Metric]:
        def gauge(name: str, text: str, value: float) -> Metric:
            return GaugeMetricFamily(f"podlb_discovery_{name}", text, value=value)

        if sync.last_sync is not None:
            age = max(self._now - sync.last_sync, 0.0)
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
        age = 0.0 if taken is None else max(self._now - taken, 0.0)
        yield gauge("snapshot_age_seconds", "Age of the snapshot file that serves; 0: none does.", age)
        yield gauge(
            "panic", "1 if endpoints are used that are not ready, since none is.", float(self._service.is_panicking)
        )


def _labels(key: EndpointKey) -> list[str]:
    return [format_authority(key[1], key[2]), key[0]]


def render(service: Service[Upstream], now: float, accept: str, sync: SyncStatus | None = None) -> tuple[bytes, str]:
    """Return the body and its content type, in the format that the Accept field asks for."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ServiceCollector(service, now, sync))
    encode, content_type = exposition.choose_encoder(accept)
    return encode(registry), content_type


__all__ = ["render"]
