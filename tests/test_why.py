"""What is remembered of requests, and told of one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lb.access_log import Attempt
from lb.why import CANDIDATES, Candidate, Record, Recorder, candidates_of, explain, headline
from tests.test_access_log import USUAL


def record(number: int, *, reason: str = "connect_refused") -> Record:
    return Record(USUAL._replace(request_id=b"id-%d" % number, reason=reason, status=503))


def test_the_last_ones_are_remembered() -> None:
    recorder = Recorder(failures=3, others=2)
    for number in range(5):
        recorder.add(record(number), is_failure=True)
        recorder.add(record(100 + number, reason="ok"), is_failure=False)
    assert [each.entry.request_id for each in recorder.failures(10)] == [b"id-4", b"id-3", b"id-2"]
    assert [each.entry.request_id for each in recorder.failures(1)] == [b"id-4"]
    assert [recorder.find(b"id-%d" % number) is not None for number in range(5)] == [False, False, True, True, True]
    assert [recorder.find(b"id-%d" % number) is not None for number in range(100, 105)] == [False] * 3 + [True] * 2


def test_of_two_with_one_id_the_later() -> None:
    recorder = Recorder(failures=2)
    one, two, three = record(1), record(1, reason="no_endpoint"), record(3)
    for each in (one, two, three):
        recorder.add(each, is_failure=True)
    assert recorder.find(b"id-1") is two
    recorder.add(record(4), is_failure=True)
    assert recorder.find(b"id-1") is None


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=200))
def test_memory_is_bounded(adds: list[tuple[int, bool]]) -> None:
    recorder = Recorder(failures=5, others=3)
    for number, is_failure in adds:
        recorder.add(record(number), is_failure=is_failure)
        assert recorder.find(b"id-%d" % number) is not None
        assert len(recorder._by_id) <= 8


def test_of_many_endpoints_those_that_are_out_come_first() -> None:
    everybody = [Candidate(f"10.0.0.{n}:80", f"pod-{n}", "available") for n in range(100)]
    everybody[77] = Candidate("10.0.0.77:80", "pod-77", "set aside", 0.5)
    chosen, states = candidates_of(everybody)
    assert len(chosen) == CANDIDATES
    assert chosen[0].name == "pod-77"
    assert states == (("available", 99), ("set aside", 1))


def test_the_story() -> None:
    failed = Record(
        USUAL._replace(
            reason="connect_refused",
            status=503,
            queue=None,
            first_byte=None,
            endpoint="10.0.0.6:8080",
            attempts=(Attempt("10.0.0.6:8080", "refused", 0.001), Attempt("10.0.0.7:8080", "timed out", 1.002)),
        ),
        *candidates_of(
            [Candidate("10.0.0.6:8080", "a", "set aside", 0.8), Candidate("10.0.0.8:8080", "", "not ready")]
        ),
    )
    assert explain(failed) == (
        "939f46d65435abc200000001 2026-11-24T09:30:00.123Z GET /cart?a=1: 503, connect_refused, after 0.020 s\n"
        "  from 10.1.2.3, 0 bytes received, 5120 sent\n"
        "  +0.001 s  10.0.0.6:8080: refused\n"
        "  +1.002 s  10.0.0.7:8080: timed out\n"
        "  +0.020 s  connect_refused\n"
        "  endpoints then: 2 (1 not ready, 1 set aside)\n"
        "    10.0.0.6:8080 a: set aside, 0.8 s left\n"
        "    10.0.0.8:8080 -: not ready\n"
    )


def test_one_that_was_answered() -> None:
    story = explain(Record(USUAL._replace(connect=0.003)))
    assert "200, ok by 10.0.0.7:8080, after 0.020 s" in story
    assert "10.0.0.7:8080: given the request, connected within 0.003 s\n" in story
    assert "the first byte of the response" in story
    assert "endpoints then: none\n" in story


@given(st.binary(max_size=50))
def test_nothing_that_was_sent_makes_a_line(target: bytes) -> None:
    line = headline(Record(USUAL._replace(target=target)))
    assert line.isprintable()
    assert line.isascii()
