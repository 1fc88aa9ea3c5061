"""The state of a service in one value, and as a table."""

from __future__ import annotations

import csv
import io
import re
import time
from pathlib import Path

import pytest

from lb import __version__, histogram, metrics
from lb.endpoint import make_endpoint
from lb.metrics import Metrics
from lb.reading import read
from lb.stats import COLUMNS, collect, to_csv
from lb.stats_model import LogEvent, Stats, to_json
from tests.test_service import NOW, Connection, new_service

A, B, C = (
    make_endpoint(f"10.0.0.{number}", 80, name=f"pod-{name}", uid=name)._replace(node=f"node-{name}", zone="z")
    for number, name in enumerate("abc", 1)
)


def count(counters: Metrics, endpoint: object, **named: int) -> None:
    slot = counters.slot(endpoint.key)  # type: ignore[attr-defined]
    for name, value in named.items():
        counters.values[slot + getattr(metrics, name)] += value


def busy() -> Stats:
    """Return what is said of a service with one endpoint that is available, one set aside and one not ready."""
    service = new_service(A, B, C)
    counters = service.metrics
    service.replace((A, B, C._replace(ready=False)), NOW + 1)
    service.connect_failed(B.key, NOW + 2, trial=0, why="connect refused")
    count(counters, A, PICKS=7, _2XX=4, _5XX=1, CONNECTS=2, REUSES=5, RETRIES=1, RESETS=2)
    count(counters, C, PICKS=1, _4XX=1)
    service.pool.checkin(A.key, Connection(), NOW)
    counters.values[metrics.EXCHANGES] = 9
    counters.values[metrics.CONNECTIONS] = 3
    counters.values[metrics.OWN_REPLIES_5XX] = 1
    counters.values[metrics.ENDED_OK] = 6
    for seconds in (0.010, 0.012, 0.2, 5000.0):
        counters.exchange_times.observe(seconds)
    events = [LogEvent("2026-11-23T06:25:01.123Z", "INFO", "server", "listening")]
    return collect(read(service, NOW + 2.5), started=NOW - 10, events=events)


def test_the_process() -> None:
    found = busy()
    assert (found.version, found.uptime) == (__version__, 12.5)
    totals = found.totals
    assert (totals.exchanges, totals.open, totals.connections, totals.retries) == (9, 3, 3, 1)
    assert totals.ends == {"ok": 6}
    assert totals.responses == {"1xx": 0, "2xx": 4, "3xx": 0, "4xx": 1, "5xx": 1}
    assert totals.own_replies == {"4xx": 0, "5xx": 1}
    assert not totals.is_panicking
    assert [event.message for event in found.events] == ["listening"]


def test_times_are_sparse_and_what_waited_is_counted() -> None:
    times = busy().times.exchange
    assert times.count == 4
    assert times.sum == pytest.approx(5000.222)
    assert [number for _, number in times.buckets] == [1, 1, 1, 1]
    bounds = [bound for bound, _ in times.buckets]
    assert bounds == [0.01, 0.012, 0.2, None]
    assert 0.01 <= times.p50 <= 0.012
    assert times.p99 == histogram.BOUNDS[-1]
    assert busy().times.connect.buckets == []


def test_each_endpoint() -> None:
    a, b, c = busy().endpoints
    assert (a.endpoint, a.name, a.uid, a.node, a.zone, a.weight) == ("10.0.0.1:80", "pod-a", "a", "node-a", "z", 1)
    assert (a.state, a.reason, a.since, a.expected_share) == ("available", "", 2.5, 1.0)
    assert (a.picks, a.connects, a.reuses, a.retries, a.resets, a.idle) == (7, 2, 5, 1, 2, 1)
    assert a.responses == {"1xx": 0, "2xx": 4, "3xx": 0, "4xx": 0, "5xx": 1}
    assert (b.state, b.reason, b.since, b.seconds_left) == ("set aside", "connect refused", 0.5, 0.5)
    assert (b.connect_failures, b.set_asides, b.expected_share) == (1, 1, 0.0)
    assert (c.state, c.since, c.expected_share) == ("not ready", 1.5, 0.0)


def test_expected_shares_follow_the_weights() -> None:
    service = new_service(A._replace(weight=3), B, C._replace(weight=0))
    shares = [one.expected_share for one in collect(read(service, NOW), started=NOW).endpoints]
    assert shares == [0.75, 0.25, 0.0]
    nobody = new_service(A._replace(weight=0))
    assert [one.expected_share for one in collect(read(nobody, NOW), started=NOW).endpoints] == [0.0]


def test_those_that_left_stay_in_the_totals() -> None:
    service = new_service(A, B)
    count(service.metrics, B, _2XX=5, RETRIES=2)
    service.replace((A,), NOW)
    found = collect(read(service, NOW), started=NOW)
    assert [one.endpoint for one in found.endpoints] == ["10.0.0.1:80"]
    assert (found.totals.responses["2xx"], found.totals.retries) == (5, 2)


def table(stats: Stats) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(stats))))


def test_the_table() -> None:
    total, a, b, c = table(busy())
    assert total["endpoint"] == "TOTAL"
    assert {
        name: total[name] for name in ("picks", "2xx", "5xx", "exchanges", "open", "endedOk", "own5xx", "idle")
    } == {
        "picks": "8",
        "2xx": "4",
        "5xx": "1",
        "exchanges": "9",
        "open": "3",
        "endedOk": "6",
        "own5xx": "1",
        "idle": "1",
    }
    assert (total["connectFailures"], total["setAsides"], total["uptime"]) == ("1", "1", "12.500")
    assert (a["endpoint"], a["name"], a["state"], a["reuses"], a["exchanges"]) == (
        "10.0.0.1:80",
        "pod-a",
        "available",
        "5",
        "",
    )
    assert (b["state"], b["reason"], b["secondsLeft"]) == ("set aside", "connect refused", "0.500")
    assert (c["state"], c["4xx"]) == ("not ready", "1")
    assert total["p99"] == "1000.0"
    assert a["p99"] == "", "nothing was measured of it"


def test_every_row_is_as_long_as_the_header() -> None:
    for made in (busy(), collect(read(new_service(), NOW), started=NOW)):
        rows = list(csv.reader(io.StringIO(to_csv(made))))
        assert {len(row) for row in rows} == {len(COLUMNS)}
        assert len(rows) == 2 + len(made.endpoints)


def test_every_field_and_column_is_documented() -> None:
    words = set(re.findall(r"`(\w+)`", (Path(__file__).parents[1] / "docs/top.md").read_text()))
    assert set(COLUMNS) - words == set()
    fields = set(re.findall(r'"(\w+)":', to_json(busy()).decode()))
    assert {field for field in fields if field.isidentifier() and field != "ok"} - words == set()


def test_a_thousand_endpoints_do_not_hold_the_loop_for_long() -> None:
    """About 5 ms on the machine that it was written on; ten times that is another kind of program."""
    endpoints = tuple(make_endpoint(f"10.0.{n // 250}.{n % 250}", 80, name=f"pod-{n}", uid=str(n)) for n in range(1000))
    service = new_service(*endpoints)
    for endpoint in endpoints:
        count(service.metrics, endpoint, PICKS=123456, _2XX=123450, REUSES=123400)
    best = 1.0
    for _ in range(5):
        began = time.perf_counter()
        to_json(collect(read(service, NOW), started=NOW))
        best = min(best, time.perf_counter() - began)
    assert best < 0.05
