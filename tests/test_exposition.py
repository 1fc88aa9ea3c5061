"""What /metrics says of discovery and of a panic."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from lb.discovery.status import SyncStatus
from lb.endpoint import make_endpoint
from lb.exposition import render
from tests.test_downstream import Harness

NOW = 500.0
A = make_endpoint("10.0.0.1", 80, uid="a")
DARK_A = A._replace(ready=False, was_ready=True)

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(sync: SyncStatus | None, harness: Harness | None = None, accept: str = "") -> Samples:
    service = (harness or Harness(A)).proxy.service
    content, content_type = render(service, NOW, accept, sync)
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
    content, _ = render(Harness(A).proxy.service, NOW, "", SyncStatus())
    rendered = {family.name for family in parse(content.decode())}
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
