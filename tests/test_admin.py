"""The pages of the admin and the probe port, of a balancer that follows Kubernetes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lb.discovery.status import SyncStatus
from lb.endpoint import make_endpoint
from lb.errors import ConnectFailure
from lb.http1.head import HeadLimits, HeadParser
from lb.pages import Pages
from lb.stats_model import LogEvent, from_json
from tests.test_downstream import Harness

A, B, C = (make_endpoint(f"10.0.0.{number}", 80, name=f"pod-{name}", uid=name) for number, name in enumerate("abc", 1))


def ask(pages: Pages, path: str, *, admin: bool) -> tuple[int, str]:
    head = HeadParser(HeadLimits()).request(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode())
    answer = pages.answer(head, admin=admin)
    status, _, content = answer()() if callable(answer) else answer
    return status, content.decode()


def rows(harness: Harness) -> list[dict[str, Any]]:
    status, content = ask(Pages(harness.proxy, lambda: (True, "ok"), SyncStatus()), "/endpoints", admin=True)
    assert status == 200
    return list(json.loads(content)["endpoints"])


def states(harness: Harness) -> dict[str, str]:
    return {row["uid"]: row["state"] for row in rows(harness)}


@pytest.mark.parametrize("admin", [True, False])
def test_readiness_is_what_it_is_at_that_moment(admin: bool) -> None:
    answers = iter([(False, "no complete list of endpoints yet"), (True, "ok"), (False, "stopping")])
    pages = Pages(Harness().proxy, lambda: next(answers), SyncStatus())
    assert ask(pages, "/readyz", admin=admin) == (503, "no complete list of endpoints yet\n")
    assert ask(pages, "/livez", admin=admin) == (200, "ok\n")
    assert ask(pages, "/readyz", admin=admin) == (200, "ok\n")
    assert ask(pages, "/readyz", admin=admin) == (503, "stopping\n")


@pytest.mark.parametrize("admin", [True, False])
def test_metrics_of_discovery_are_on_both_ports(admin: bool) -> None:
    sync = SyncStatus()
    pages = Pages(Harness(A).proxy, lambda: (True, "ok"), sync)
    sync.relists = 7
    status, content = ask(pages, "/metrics", admin=admin)
    assert status == 200
    assert "\npodlb_discovery_relists_total 7.0\n" in content


def test_each_endpoint_with_its_pod() -> None:
    (row,) = rows(Harness(A))
    assert {name: row[name] for name in ("endpoint", "name", "uid", "state", "secondsLeft")} == {
        "endpoint": "10.0.0.1:80",
        "name": "pod-a",
        "uid": "a",
        "state": "available",
        "secondsLeft": 0.0,
    }


def test_states_before_in_and_after_a_panic() -> None:
    harness = Harness(A, B)
    proxy = harness.proxy
    proxy.replace((A, B._replace(ready=False, was_ready=True), C._replace(ready=False)))
    assert states(harness) == {"a": "available", "b": "not ready", "c": "not ready"}
    dark = tuple(endpoint._replace(ready=False, was_ready=True) for endpoint in (A, B))
    proxy.replace((*dark, C._replace(ready=False)))
    assert states(harness) == {"a": "available", "b": "available", "c": "not ready"}
    upstream = proxy.new_upstream(A)
    proxy.upstream_silent(upstream)
    assert states(harness) == {"a": "not ready", "b": "available", "c": "not ready"}
    proxy.replace((A, B))
    assert states(harness) == {"a": "available", "b": "available"}


def test_one_that_went_silent_is_set_aside_for_so_long() -> None:
    harness = Harness(A, B)
    harness.proxy.upstream_silent(harness.proxy.new_upstream(A))
    first, second = rows(harness)
    assert (first["state"], first["secondsLeft"]) == ("set aside", 1.0)
    assert (second["state"], second["secondsLeft"]) == ("available", 0.0)


def test_stats_say_why_an_endpoint_is_out_and_what_the_log_said() -> None:
    harness = Harness(A, B)
    harness.proxy.upstream_silent(harness.proxy.new_upstream(A))
    harness.proxy.connect_failed(harness.proxy.new_upstream(B), ConnectFailure.TIMED_OUT, trial=0)
    events = [LogEvent("2026-11-23T06:25:01.123Z", "WARN", "proxy", "endpoint 10.0.0.1:80 is set aside")]
    pages = Pages(harness.proxy, lambda: (True, "ok"), recent_events=lambda: events)
    status, content = ask(pages, "/stats.json", admin=True)
    found = from_json(content.encode())
    assert status == 200
    assert [(one.state, one.reason) for one in found.endpoints] == [
        ("set aside", "it acknowledges nothing any more"),
        ("set aside", "connect timed out"),
    ]
    assert found.events == events
    status, content = ask(pages, "/stats.csv", admin=True)
    assert (status, len(content.splitlines())) == (200, 4)
    assert ask(pages, "/stats.json", admin=False)[0] == ask(pages, "/stats.csv", admin=False)[0] == 404
