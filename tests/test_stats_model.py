"""What is written for `/stats.json` is read again as the same, and nothing else passes for it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.stats_model import (
    NEW_ENDPOINT,
    NO_TIMES,
    NO_TOTALS,
    EndpointStats,
    Histogram,
    LogEvent,
    NotStatsError,
    Stats,
    Times,
    from_json,
    to_json,
)


def endpoint_stats(endpoint: str = "10.0.0.1:80", **fields: Any) -> EndpointStats:
    """Return one that has done nothing, but for `fields`."""
    found = msgspec.structs.replace(NEW_ENDPOINT, endpoint=endpoint, weight=1, state="available")
    return msgspec.structs.replace(found, **fields)


def stats(*endpoints: EndpointStats, instance: str = "a", uptime: float = 10.0, **totals: Any) -> Stats:
    """Return what there is to say when nothing has happened, but for `totals`."""
    nothing = msgspec.structs.replace(NO_TOTALS, own_replies={"4xx": 0, "5xx": 0})
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
