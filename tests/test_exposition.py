"""What /metrics says: of endpoints, of discovery, of a panic."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import exposition
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from prometheus_client.registry import Collector, CollectorRegistry

from lb import metrics
from lb.discovery.status import SyncStatus
from lb.endpoint import make_endpoint
from lb.exposition import Scrape, endpoint_families, render
from lb.reading import read
from tests.test_downstream import Harness

NOW = 500.0
A = make_endpoint("10.0.0.1", 80, uid="a")
DARK_A = A._replace(ready=False, was_ready=True)

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(sync: SyncStatus | None, harness: Harness | None = None, accept: str = "") -> Samples:
    service = (harness or Harness(A)).proxy.service
    content, content_type = render(Scrape(read(service, NOW), sync=sync), accept)
    families = (parse_openmetrics if "openmetrics" in content_type else parse)(content.decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def discovery(sync: SyncStatus | None, harness: Harness | None = None, accept: str = "") -> dict[str, float]:
    """Return what is said of discovery, by name (without its prefix) and value of the label."""
    found = {}
    for (name, labels), value in samples(sync, harness, accept).items():
        if name.startswith("podlb_discovery_"):
            key = name.removeprefix("podlb_discovery_")
            found[f"{key} {labels[0][1]}" if labels else key] = value
    return found


def test_every_metric_is_documented_and_no_other() -> None:
    harness = Harness(A)
    harness.proxy.service.metrics.slot(A.key)
    content, _ = render(Scrape(read(harness.proxy.service, NOW), sync=SyncStatus()), "")
    rendered = {family.name for family in parse(content.decode()) if not family.name.startswith("process_")}
    docs = Path(__file__).parents[1] / "docs"
    told = re.findall(r"`(podlb_[a-z_]+)", (docs / "metrics.md").read_text() + (docs / "kubernetes.md").read_text())
    names = {name.removesuffix("_total") for name in told}
    # (This one only once there was a word.)
    assert names - {"podlb_discovery_last_sync_age_seconds"} == rendered


def test_a_source_that_follows_nothing_says_nothing() -> None:
    assert discovery(None) == {}


def test_before_the_first_word_of_the_api_server() -> None:
    assert discovery(SyncStatus()) == {
        "relists_total": 0.0,
        "watch_forbidden": 0.0,
        "snapshot_age_seconds": 0.0,
        "panic": 0.0,
    }


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_all_there_is(accept: str) -> None:
    sync = SyncStatus()
    sync.last_sync = NOW - 12.5
    for reason in ("end", "cut", "end", "gone"):
        sync.restarted(reason)
    sync.relists = 3
    sync.states = {"ready": 5, "serving": 1, "terminating": 0, "not_ready": 2}
    sync.is_watch_forbidden = True
    sync.snapshot_taken = NOW - 90.0
    assert discovery(sync, accept=accept) == {
        "last_sync_age_seconds": 12.5,
        "watch_restarts_total end": 2.0,
        "watch_restarts_total cut": 1.0,
        "watch_restarts_total gone": 1.0,
        "relists_total": 3.0,
        "endpoints ready": 5.0,
        "endpoints serving": 1.0,
        "endpoints terminating": 0.0,
        "endpoints not_ready": 2.0,
        "watch_forbidden": 1.0,
        "snapshot_age_seconds": 90.0,
        "panic": 0.0,
    }


def test_an_age_is_never_below_zero() -> None:
    # The thread's clock may be a moment ahead of the loop's.
    sync = SyncStatus()
    sync.last_sync = sync.snapshot_taken = NOW + 0.01
    found = discovery(sync)
    assert (found["last_sync_age_seconds"], found["snapshot_age_seconds"]) == (0.0, 0.0)


def test_a_panic_and_who_gets_picks_in_it() -> None:
    harness = Harness(A)
    available = ("podlb_endpoint_available", (("endpoint", "10.0.0.1:80"), ("uid", "a")))
    for snapshot, panic, picks in (((A,), 0.0, 1.0), ((DARK_A,), 1.0, 1.0), ((A._replace(ready=False),), 0.0, 0.0)):
        harness.proxy.replace(snapshot)
        assert discovery(SyncStatus(), harness)["panic"] == panic
        assert samples(None, harness)[available] == picks


OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
ODD = make_endpoint("2001:db8::1", 8080, uid='a "quoted\\ uid\nwith a line')


def busy() -> Harness:
    """A service of which every counter is another number."""
    harness = Harness(A, ODD)
    counters = harness.proxy.service.metrics
    number = 0
    gone_soon = make_endpoint("10.0.0.9", 80, uid="gone soon")
    counters.retain({A.key, ODD.key, gone_soon.key}, NOW)
    for endpoint in (A, ODD, gone_soon):
        slot = counters.slot(endpoint.key)
        for counter in range(metrics.OPEN + 1):
            number += 1
            counters.values[slot + counter] = number
        counters.endpoint_times[slot].observe(number / 1000)
    folded = make_endpoint("10.0.0.8", 80)
    counters.values[counters.slot(folded.key) + metrics.PICKS] = 77
    counters.retain({A.key, ODD.key}, NOW)
    counters.fold(NOW + metrics.KEEP_SECONDS)
    return harness


class Theirs(Collector):
    """The same families as a collector that leaves everything to prometheus_client."""

    def __init__(self, scrape: Scrape) -> None:
        self._scrape = scrape

    def collect(self) -> Iterator[Metric]:
        for family, lines in endpoint_families(self._scrape.reading):
            for parsed in parse("\n".join([*lines, ""])):
                for sample in parsed.samples:
                    family.add_sample(sample.name, sample.labels, sample.value)
            yield family


def flat(text: str, accept: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = (parse_openmetrics if accept else parse)(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


@pytest.mark.parametrize("accept", ["", OPEN_METRICS])
def test_what_we_write_ourselves_is_what_the_library_would_write(accept: str) -> None:
    scrape = Scrape(read(busy().proxy.service, NOW))
    content, _ = render(scrape, accept)
    ours = flat(content.decode(), accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Theirs(scrape))
    encode, _ = exposition.choose_encoder(accept)
    theirs = flat(encode(registry).decode(), accept)
    assert len(theirs) > 100
    assert {key: ours.get(key) for key in theirs} == theirs
    types = {line for line in content.decode().splitlines() if line.startswith("# TYPE")}
    assert {line for line in encode(registry).decode().splitlines() if line.startswith("# TYPE")} <= types


def test_who_left_long_ago_is_one_endpoint() -> None:
    harness = busy()
    picks = {
        dict(labels)["endpoint"]: value
        for (name, labels), value in samples(None, harness).items()
        if name == "podlb_picks_total"
    }
    assert picks["gone"] == 77
    assert set(picks) == {"10.0.0.1:80", "[2001:db8::1]:8080", "10.0.0.9:80", "gone"}


def test_the_histogram_of_the_service_is_that_of_its_endpoints_and_the_others() -> None:
    harness = Harness(A)
    counters = harness.proxy.service.metrics
    counters.endpoint_times[counters.slot(A.key)].observe(0.002)
    counters.exchange_times.observe(0.2)
    found = samples(None, harness)
    of_a = (("endpoint", "10.0.0.1:80"), ("uid", "a"))
    assert found["podlb_exchange_seconds_count", ()] == 2
    assert found["podlb_exchange_seconds_sum", ()] == pytest.approx(0.202)
    assert found["podlb_endpoint_seconds_count", of_a] == 1
    assert found["podlb_endpoint_seconds_bucket", (*of_a[:1], ("le", "0.0025"), *of_a[1:])] == 1
    assert found["podlb_endpoint_seconds_bucket", (*of_a[:1], ("le", "0.001"), *of_a[1:])] == 0


def test_connections_in_use_are_those_that_do_not_idle() -> None:
    harness = Harness(A)
    harness.pooled(A)
    harness.proxy.new_upstream(A)
    found = samples(None, harness)
    of_a = (("endpoint", "10.0.0.1:80"), ("uid", "a"))
    assert (found["podlb_pool_idle", of_a], found["podlb_pool_active", of_a]) == (1, 1)


def test_the_state_of_an_endpoint() -> None:
    harness = Harness(A, make_endpoint("10.0.0.2", 80)._replace(ready=False))
    harness.proxy.service.connect_failed(A.key, NOW, trial=0)
    states = {
        dict(labels)["endpoint"]: dict(labels)["state"]
        for (name, labels), value in samples(None, harness).items()
        if name == "podlb_endpoint_state"
    }
    assert states == {"10.0.0.1:80": "set aside", "10.0.0.2:80": "not ready"}


def test_what_the_process_uses() -> None:
    found = samples(None)
    assert found["process_open_fds", ()] > 0
    assert found["process_resident_memory_bytes", ()] > 1e6


def test_lines_that_were_dropped() -> None:
    content, _ = render(Scrape(read(Harness(A).proxy.service, NOW), 7), "")
    assert flat(content.decode(), "")["podlb_log_lines_dropped_total", ()] == 7


def test_what_was_frozen_does_not_change() -> None:
    harness = busy()
    scrape = Scrape(read(harness.proxy.service, NOW))
    before, _ = render(scrape, "")
    harness.proxy.counters[metrics.EXCHANGES] += 5
    harness.proxy.service.metrics.slot(make_endpoint("10.0.0.7", 80).key)
    harness.proxy.replace(())
    after, _ = render(scrape, "")
    assert [line for line in after.splitlines() if b"process_" not in line] == [
        line for line in before.splitlines() if b"process_" not in line
    ]


@pytest.mark.slow
@pytest.mark.parametrize("accept", ["", OPEN_METRICS])
def test_a_thousand_endpoints_cost_at_most_a_tenth_of_a_second(accept: str) -> None:
    many = tuple(make_endpoint(f"10.0.{at // 250}.{at % 250}", 8080, uid=f"{at:032x}") for at in range(1000))
    harness = Harness(*many)
    counters = harness.proxy.service.metrics
    for endpoint in many:
        counters.values[counters.slot(endpoint.key) + metrics.PICKS] = 12345
    in_loop, in_thread = [], []
    for _ in range(7):
        began = time.process_time()
        scrape = Scrape(read(harness.proxy.service, NOW))
        frozen = time.process_time()
        render(scrape, accept)
        in_loop.append(frozen - began)
        in_thread.append(time.process_time() - frozen)
    assert min(in_loop) < 0.005
    assert min(in_loop) + min(in_thread) < 0.1
