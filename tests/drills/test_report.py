"""Figures are held against bounds, and whatever is beyond them is told."""

from __future__ import annotations

import pytest

from tests.drills.deliveries import Readings
from tests.drills.endpoints import Key, Ready
from tests.drills.load import Kind, Request, plan
from tests.drills.report import Bounds, Result, Slow, first_answers, judge, percentile, story, table
from tests.drills.test_deliveries import START, line


def requests_of(*kinds: Kind, latency: float = 0.03) -> list[Request]:
    """One request after the other, each with what became of it; number 2 and 3 of each four are POSTs."""
    requests = []
    for number, kind in enumerate(kinds):
        request = plan("x", number, float(number))
        request.kind, request.ended = kind, number + latency
        request.status = {Kind.OK: 200, Kind.STATUS: 502}.get(kind, 0)
        requests.append(request)
    return requests


def logs_of(requests: list[Request], pod: str = "a") -> Readings:
    readings = Readings("x")
    readings.reading(pod, [START, *(line(r.method, r.id) for r in requests)])
    return readings


def judged(bounds: Bounds, requests: list[Request], readings: Readings | None = None) -> Result:
    result = Result("x", "podlb")
    judge(result, bounds, requests, readings or logs_of(requests))
    return result


def test_all_is_well() -> None:
    result = judged(Bounds(), requests_of(*[Kind.OK] * 8))
    assert result.is_good
    assert (result.sent, result.answered, result.get_failed, result.post_failed) == (8, 8, 0, 0)
    assert (result.p50, result.slowest) == pytest.approx((0.03, 0.03))
    assert "| kept " in table([result])


@pytest.mark.parametrize(
    ("kind", "where", "figures"),
    [
        (Kind.STATUS, 1, (1, 0)),
        (Kind.STATUS, 2, (0, 1)),
        (Kind.LOST, 0, (1, 0)),
        (Kind.TIMEOUT, 3, (0, 1)),
        (Kind.REFUSED, 4, (1, 0)),
        (Kind.TRUNCATED, 6, (0, 1)),
    ],
)
def test_one_that_failed_is_too_many(kind: Kind, where: int, figures: tuple[int, int]) -> None:
    kinds = [Kind.OK] * 8
    kinds[where] = kind
    result = judged(Bounds(), requests_of(*kinds))
    assert (result.get_failed, result.post_failed) == figures
    assert len(result.faults) == 1
    assert "allowed 0" in result.faults[0]
    assert "NOT KEPT" in table([result])
    assert "NOT KEPT" in story(result)


def test_what_is_cut_is_counted_apart_where_something_dies() -> None:
    requests = requests_of(Kind.OK, Kind.TRUNCATED, Kind.TRUNCATED, Kind.OK)
    result = judged(Bounds(is_cut_apart=True), requests)
    assert result.is_good
    assert (result.truncated, result.get_failed, result.post_failed) == (2, 0, 0)


@pytest.mark.parametrize("bounds", [Bounds(), Bounds(get=None, post=None, is_cut_apart=True)])
def test_one_that_looks_complete_and_is_wrong_is_never_right(bounds: Bounds) -> None:
    result = judged(bounds, requests_of(Kind.OK, Kind.WRONG))
    assert any("look complete" in fault for fault in result.faults)


def test_delivered_twice() -> None:
    requests = requests_of(*[Kind.OK] * 4)
    readings = logs_of(requests)
    readings.reading("b", [START, line("POST", requests[2].id), line("GET", requests[0].id)])
    result = judged(Bounds(), requests, readings)
    assert result.twice == 1, "a GET may be sent again"
    assert result.faults == [f"1 POSTs were delivered twice: {requests[2].id}"]


def test_so_many_a_process() -> None:
    requests = requests_of(*[Kind.OK, Kind.OK, Kind.LOST, Kind.LOST] * 3)
    bounds = Bounds(post=15, post_per_process=5)
    assert "6 POSTs failed at one process of a" in judged(bounds, requests).faults[0]
    readings = logs_of(requests[:6])
    readings.reading("b", [START, *(line(r.method, r.id) for r in requests[6:])])
    assert judged(bounds, requests, readings).is_good


def test_slow_ones() -> None:
    requests = requests_of(*[Kind.OK] * 100)
    bounds = Bounds(slow=Slow(0.9, 0.02))
    for request in requests[:2]:
        request.ended += 1
    assert judged(bounds, requests).is_good
    requests[2].ended += 1
    assert judged(bounds, requests).faults == ["3 of 100 took longer than 0.9 s, allowed 2%"]


def test_logs_with_a_gap_prove_nothing() -> None:
    requests = requests_of(*[Kind.OK] * 4)
    result = judged(Bounds(), requests, logs_of(requests[:3]))
    assert result.faults == [f"1 were answered and are in no log that was read: {requests[3].id}"]


def test_nothing_was_answered() -> None:
    result = judged(Bounds(get=None, post=None), requests_of(Kind.REFUSED))
    assert result.faults == ["nothing was answered"]


def test_first_answers() -> None:
    requests = requests_of(*[Kind.OK] * 4)  # they end at 0.03, 1.03, 2.03, 3.03
    turned = [
        Ready(0.5, Key("a", "u", "10.0.0.1")),
        Ready(2.5, Key("a", "u", "10.0.0.2")),
        Ready(9, Key("a", "u", "x")),
    ]
    assert first_answers(turned, requests, logs_of(requests)) == pytest.approx([0.53, 0.53])
    assert first_answers([Ready(0.5, Key("b", "u", "x"))], requests, logs_of(requests)) == []


def test_percentile() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0)) == (50.0, 99.0, 100.0)
    assert percentile([7.0], 0.01) == 7.0


def test_a_table_of_several() -> None:
    skipped = Result("kill", "podlb", skipped="no way to make faults")
    lines = table([judged(Bounds(), requests_of(Kind.OK)), skipped]).splitlines()
    assert len({len(text) for text in lines}) == 1
    assert len(lines) == 4
    assert lines[3].rstrip(" |").endswith("skipped")
    assert "no way to make faults" in story(skipped)
