"""What is written for `/stats.json` is read again as the same, and nothing else passes for it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.stats_model import EndpointStats, Histogram, LogEvent, NotStatsError, Stats, Times, Totals, from_json, to_json

NO_TIMES = Histogram(count=0, sum=0.0, p50=0.0, p95=0.0, p99=0.0, buckets=[])


def endpoint_stats(endpoint: str = "10.0.0.1:80", **fields: Any) -> EndpointStats:
    """Return one that has done nothing, but for `fields`."""
    found = EndpointStats(
        endpoint=endpoint,
        name="",
        uid="",
        node="",
        zone="",
        weight=1,
        state="available",
        reason="",
        since=0.0,
        seconds_left=0.0,
        expected_share=0.0,
        picks=0,
        responses={},
        retries=0,
        connects=0,
        reuses=0,
        stale=0,
        connect_failures=0,
        resets=0,
        set_asides=0,
        idle=0,
        active=0,
    )
    return msgspec.structs.replace(found, **fields)


def stats(*endpoints: EndpointStats, instance: str = "a", uptime: float = 10.0, **totals: Any) -> Stats:
    """Return what there is to say when nothing has happened, but for `totals`."""
    nothing = Totals(
        connections=0,
        connections_open=0,
        received_bytes=0,
        sent_bytes=0,
        exchanges=0,
        open=0,
        ends={},
        own_replies={"4xx": 0, "5xx": 0},
        responses={},
        retries=0,
        waiting=0,
        is_panicking=False,
    )
    return Stats(
        version="1.2.3",
        instance=instance,
        uptime=uptime,
        totals=msgspec.structs.replace(nothing, **totals),
        times=Times(exchange=NO_TIMES, first_byte=NO_TIMES, connect=NO_TIMES),
        endpoints=list(endpoints),
        events=[],
    )


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TIMES = st.builds(
    Histogram,
    count=st.integers(0, 1 << 63),
    sum=st.floats(0, 1e9),
    p50=st.floats(0, 1e3),
    p95=st.floats(0, 1e3),
    p99=st.floats(0, 1e3),
    buckets=st.lists(st.tuples(st.none() | st.floats(0, 1e3), st.integers(0, 1 << 63)), max_size=3),
)


@given(TEXT, TEXT, st.none() | TIMES, st.floats(0, 1e9))
def test_it_comes_back_as_it_was(name: str, message: str, times: Histogram | None, uptime: float) -> None:
    one = endpoint_stats(name=name, times=times, responses={"2xx": 3})
    made = msgspec.structs.replace(stats(one, uptime=uptime), events=[LogEvent("t", "INFO", "x", message)])
    assert from_json(to_json(made)) == made


def test_the_words_in_the_json() -> None:
    found = json.loads(to_json(stats(endpoint_stats())))
    assert set(found) == {"version", "instance", "uptime", "totals", "times", "endpoints", "events"}
    assert {"connectionsOpen", "isPanicking", "ownReplies"} < set(found["totals"])
    assert {"exchange", "firstByte", "connect", "overhead"} == set(found["times"])
    assert {"secondsLeft", "expectedShare", "connectFailures", "setAsides"} < set(found["endpoints"][0])


def test_what_a_later_version_adds_is_passed_over() -> None:
    found = json.loads(to_json(stats()))
    assert from_json(json.dumps({**found, "more": [1]}).encode()) == stats()


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"ok\n", b"\xff", b'{"version": 1}', b'"\xff"'])
def test_what_is_something_else(content: bytes) -> None:
    with pytest.raises(NotStatsError):
        from_json(content)
