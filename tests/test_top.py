"""Two readings become what is shown."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.errors import END_WORDS
from lb.histogram import BOUNDS, SUM, quantile
from lb.stats_model import Histogram, LogEvent, Stats
from lb.top import Row, bucket_counts, growth, success_share, view, worst_first
from tests.test_stats_model import endpoint_stats, stats


def times_of(counts: dict[int, int]) -> Histogram:
    """Return the histogram with so many in each of these buckets."""
    buckets: list[tuple[float | None, int]] = [
        (BOUNDS[at] if at < len(BOUNDS) else None, count) for at, count in sorted(counts.items())
    ]
    return Histogram(count=sum(counts.values()), sum=0.0, p50=0.0, p95=0.0, p99=0.0, buckets=buckets)


def with_times(made: Stats, **named: Histogram) -> Stats:
    return msgspec.structs.replace(made, times=msgspec.structs.replace(made.times, **named))


def test_rates_are_those_of_the_time_between() -> None:
    earlier = stats(uptime=10.0, exchanges=100, retries=4, received_bytes=1000, sent_bytes=5000)
    later = stats(uptime=12.0, exchanges=300, retries=5, received_bytes=3000, sent_bytes=6000, open=7, waiting=2)
    found = view(earlier, later)
    assert (found.seconds, found.rate, found.retries, found.received, found.sent) == (2.0, 100.0, 0.5, 1000.0, 500.0)
    assert (found.in_flight, found.waiting, found.is_first) == (7, 2, False)


def test_the_first_reading_is_of_the_time_since_the_start() -> None:
    found = view(None, stats(uptime=50.0, exchanges=100, ends={"ok": 98, "reset_in_body": 2}))
    assert (found.is_first, found.seconds, found.rate, found.success) == (True, 50.0, 2.0, 0.98)


@pytest.mark.parametrize(
    "later", [stats(instance="b", uptime=1.0, exchanges=500), stats(instance="b", uptime=99.0, exchanges=500)]
)
def test_a_process_that_began_anew_begins_anew_here(later: Stats) -> None:
    found = view(stats(uptime=50.0, exchanges=100), later)
    assert found.is_first
    assert found.rate == later.totals.exchanges / later.uptime


@pytest.mark.parametrize(
    ("ends", "success"),
    [
        ({}, None),
        ({"ok": 3}, 1.0),
        ({"ok": 3, "client_gone": 9, "bad_request": 1, "bad_request:host": 1, "request_timeout": 1}, 1.0),
        ({"client_gone": 9}, None),
        ({"ok": 3, "connect_refused": 1}, 0.75),
        ({"bad_response:chunk": 1}, 0.0),
    ],
)
def test_success_is_that_of_what_was_not_the_clients_doing(ends: dict[str, int], success: float | None) -> None:
    assert success_share(ends) == success


def test_failures_are_those_of_now_the_most_frequent_first() -> None:
    earlier = stats(uptime=1.0, ends={"ok": 5, "client_gone": 1, "no_endpoint": 7})
    later = stats(uptime=2.0, ends={"ok": 9, "client_gone": 3, "no_endpoint": 7, "drain_cut": 1, "bad_request:host": 2})
    assert view(earlier, later).failures == (("bad_request:host", 2), ("client_gone", 2), ("drain_cut", 1))


def test_quantiles_are_those_of_the_difference() -> None:
    earlier = with_times(stats(uptime=1.0), exchange=times_of({10: 1000}))
    later = with_times(stats(uptime=2.0), exchange=times_of({10: 1000, 100: 50, 200: 50}))
    found = view(earlier, later)
    assert found.p50 == BOUNDS[100]
    assert found.p99 is not None
    assert BOUNDS[199] < found.p99 <= BOUNDS[200]
    quiet = view(later, msgspec.structs.replace(later, uptime=3.0))
    assert (quiet.p50, quiet.p95, quiet.p99, quiet.overhead_p99) == (None, None, None, None)


COUNTS = st.dictionaries(st.integers(0, SUM - 1), st.integers(1, 1 << 40), max_size=12)


@given(COUNTS, COUNTS, st.floats(0.01, 1.0))
def test_the_difference_of_histograms_is_the_histogram_of_what_came(
    before: dict[int, int], came: dict[int, int], share: float
) -> None:
    after = Counter(before) + Counter(came)
    found = bucket_counts(times_of(before), times_of(after))
    alone = [came.get(at, 0) for at in range(SUM)]
    assert found == alone
    assert quantile(found, share) == quantile(alone, share)


@given(COUNTS, COUNTS)
def test_no_bucket_is_ever_negative(before: dict[int, int], after: dict[int, int]) -> None:
    assert min(bucket_counts(times_of(before), times_of(after))) >= 0


@given(st.floats(0, 1e9))
def test_bounds_of_another_version_find_their_bucket(bound: float) -> None:
    found = bucket_counts(None, msgspec.structs.replace(times_of({}), buckets=[(bound, 2), (None, 1)]))
    assert sum(found) == 3


NUMBER = st.integers(0, 1 << 50)


@given(NUMBER, NUMBER)
def test_a_counter_grows_or_begins_anew(before: int, after: int) -> None:
    assert 0 <= growth(before, after) <= after


READING = st.builds(
    lambda uptime, exchanges, retries, ends, picks: stats(
        endpoint_stats("a", picks=picks, responses={"2xx": picks, "5xx": retries}, reuses=picks, connects=retries),
        endpoint_stats("b", picks=exchanges),
        uptime=uptime,
        exchanges=exchanges,
        retries=retries,
        ends=ends,
    ),
    st.floats(0, 1e6),
    NUMBER,
    NUMBER,
    st.dictionaries(st.sampled_from(END_WORDS), NUMBER, max_size=4),
    NUMBER,
)


@given(st.none() | READING, READING)
def test_whatever_is_read_rates_are_not_negative_and_shares_are_shares(earlier: Stats | None, later: Stats) -> None:
    found = view(earlier, later)
    assert min(found.rate, found.retries, found.received, found.sent, found.seconds) >= 0
    shares = [found.success]
    for row in found.rows:
        assert row.rate >= 0
        shares += [row.share, row.success, row.reuse]
    assert all(share is None or 0 <= share <= 1 for share in shares)
    told = [row.share for row in found.rows if row.share is not None]
    assert not told or sum(told) == pytest.approx(1.0)


def test_the_row_of_an_endpoint() -> None:
    before = endpoint_stats(
        picks=10, responses={"2xx": 8, "5xx": 2}, connects=2, reuses=8, resets=1, times=times_of({50: 5})
    )
    after = msgspec.structs.replace(
        before,
        name="pod-a",
        picks=20,
        responses={"2xx": 15, "5xx": 3},
        connects=3,
        reuses=17,
        resets=2,
        connect_failures=1,
        active=4,
        times=times_of({50: 5, 60: 8}),
        expected_share=0.5,
    )
    other = endpoint_stats("10.0.0.2:80", picks=30)
    found = view(stats(before, uptime=1.0), stats(after, other, uptime=3.0))
    row, new = found.rows
    assert (row.endpoint, row.pod, row.rate, row.share, row.expected_share) == ("10.0.0.1:80", "pod-a", 5.0, 0.25, 0.5)
    assert (row.success, row.reuse, row.in_flight) == (0.7, 0.9, 4)
    assert row.p50 is not None
    assert BOUNDS[59] < row.p50 <= BOUNDS[60]
    assert (new.rate, new.share, new.success, new.p50) == (15.0, 0.75, None, None)


def test_a_pod_at_the_address_of_another_is_another() -> None:
    old, new = endpoint_stats(uid="1", picks=100), endpoint_stats(uid="2", picks=6)
    assert view(stats(old, uptime=1.0), stats(new, uptime=2.0)).rows[0].rate == 6.0


def row(name: str, **fields: object) -> Row:
    (found,) = view(None, stats(endpoint_stats(name))).rows
    return found._replace(**fields)  # type: ignore[arg-type]


def test_the_worst_come_first() -> None:
    rows = [
        row("fine", success=1.0, p99=0.1),
        row("idle"),
        row("slow", success=1.0, p99=2.0),
        row("failing", success=0.5, p99=0.1),
        row("out", state="set aside"),
    ]
    assert [one.endpoint for one in worst_first(rows)] == ["out", "failing", "slow", "fine", "idle"]


def test_nothing_that_was_read_talks_to_the_terminal() -> None:
    bad = endpoint_stats("\x1b]0;x\x07", name="\x1b[2J", node="a\nb", state="\x9b", reason="\u202e")
    made = msgspec.structs.replace(stats(bad, ends={"\x1b": 1}), version="\x1b", events=[LogEvent(*["\x1b[31m"] * 4)])
    found = view(None, made)
    assert "\x1b" not in repr(found).replace("\\x1b", "\x1b")
    assert found.rows[0].node == "a\N{REPLACEMENT CHARACTER}b"
    assert found.events[0].message == "\N{REPLACEMENT CHARACTER}[31m"
