"""The recogniser against h11 against httptools, on heads and on framing: who accepts, reads the same message.

What podlb accepts, by either of its readers, h11 by itself and httptools (llhttp in its strict mode) accept as well:
the same start line, the same fields, the same body, and the next message begins at the same byte. podlb may refuse
more, and what is not complete yet it may refuse later.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.http1.framing import CHUNKED
from lb.http1.head import HeadParser
from tests.fuzz.known import KNOWN, Known, has_framing_trailer, is_known
from tests.fuzz.readers import (
    LIMITS,
    Llhttp,
    Read,
    Stream,
    h11_request,
    h11_response,
    podlb_requests,
    podlb_responses,
)
from tests.fuzz.runs import DURATIONS, Run
from tests.fuzz.streams import Streams

# One for all inputs: what the recogniser remembers of earlier heads must change nothing.
FAST = HeadParser(LIMITS)
SLOW = HeadParser(LIMITS, recogniser=False)


def _value(name: bytes, value: bytes) -> bytes:
    value = value.rstrip(b" \t")
    # h11 writes codings in lower case.
    return value.lower() if name.lower() == b"transfer-encoding" else value


def same_message(mine: Read, theirs: Read, *, trailers: bool = True) -> str | None:
    """Say in what another reader's message differs from ours, if it does."""
    # httptools hands a value on with the white space behind it (RFC 9110, section 5.5: not a part of the value).
    fields = [(name, _value(name, value)) for name, value in theirs.fields]
    if mine.start != theirs.start:
        return f"start line {theirs.start}, not {mine.start}"
    if mine.fields != fields:
        return f"fields {fields}, not {mine.fields}"
    if mine.body != theirs.body:
        return f"body {theirs.body!r}, not {mine.body!r}"
    # We drop trailers that must not stand there; those we keep come in their order.
    left = iter((name, value.rstrip(b" \t")) for name, value in theirs.trailers)
    if trailers and not all(trailer in left for trailer in mine.trailers):
        return f"trailers {theirs.trailers}, not {mine.trailers}"
    return None


def compared(reader: str, mine: Read, theirs: Read | str, raw: bytes) -> str | None:
    """Say what another reader makes of a message, if that is neither the same nor known."""
    if isinstance(theirs, str):
        return None if is_known(reader, raw, theirs) else f"{reader} says: {theirs}"
    if difference := same_message(mine, theirs):
        return f"{reader} reads another {difference}"
    if (theirs.end < 0) is not (mine.end < 0) or theirs.end not in (-1, len(raw)):
        return f"{reader} ends it at {theirs.end}, not {len(raw) if mine.end >= 0 else -1}"
    return None


def problem_of(data: bytes, streams: tuple[Stream, Stream], *, responses: bool) -> str | None:
    """Say in what the readers differ about `data`, if they do."""
    fast, slow = streams
    if fast.messages != slow.messages:
        return f"the recogniser reads {fast.messages}, h11 {slow.messages}"
    if bool(fast.refused) != bool(slow.refused):
        return f"the recogniser says {fast.refused!r}, h11 {slow.refused!r}"
    llhttp = Llhttp(responses=responses)
    for mine in fast.messages:
        if mine.end < 0 and mine.framing == CHUNKED:
            # They may find a fault already in what has come, which we find when the rest of the line is here.
            break
        raw = data[mine.begin : mine.end if mine.end >= 0 else len(data)]
        if problem := compared("h11", mine, h11_response(raw) if responses else h11_request(raw), raw):
            return problem
        theirs = llhttp.read(raw, complete=mine.end >= 0)
        if problem := compared("httptools", mine, theirs, raw):
            return problem
        is_interim = mine.start[0].startswith(b"1") and responses
        if isinstance(theirs, str) or is_interim or has_framing_trailer(raw):
            # It reads nothing behind what it refused, behind a 1xx in HTTP/1.0 or with `Connection: close` (that says
            # something of the final response), nor behind such a field in a trailer section.
            llhttp = Llhttp(responses=responses)
    return None


def requests_problem(data: bytes) -> str | None:
    """Say in what the readers differ about a client's stream, if they do."""
    return problem_of(data, (podlb_requests(data, FAST), podlb_requests(data, SLOW)), responses=False)


def responses_problem(data: bytes) -> str | None:
    """Say in what the readers differ about an endpoint's stream, if they do."""
    return problem_of(data, (podlb_responses(data, FAST), podlb_responses(data, SLOW)), responses=True)


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: f"{known.reader}: {known.said}")
def test_what_is_known_is_so(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = responses_problem if known.example.startswith(b"HTTP") else requests_problem
    assert problem(known.example) is None
    monkeypatch.setattr("tests.fuzz.known.KNOWN", [other for other in KNOWN if other is not known])
    assert f"{known.reader} says: {known.said}" in (problem(known.example) or "podlb refuses it, or the others do not")


@pytest.mark.parametrize("seconds", DURATIONS)
def test_requests(seconds: float) -> None:
    run = Run(seconds, "requests")
    for _, random in run.inputs():
        streams = Streams(random)
        data = streams.requests()
        if requests_problem(data):
            run.fail(data, requests_problem, streams.applied, tries=3000)
        read = podlb_requests(data, FAST)
        run.counts["read"] += len(read.messages)
        run.counts["refused"] += bool(read.refused)
    run.report()
    # Neither all good nor all bad, or it shows little.
    assert run.is_single or min(run.counts["read"], run.counts["refused"]) > run.counts["inputs"] // 10


@pytest.mark.parametrize("seconds", DURATIONS)
def test_responses(seconds: float) -> None:
    run = Run(seconds, "responses")
    for _, random in run.inputs():
        streams = Streams(random)
        data = streams.responses()
        if responses_problem(data):
            run.fail(data, responses_problem, streams.applied, tries=3000)
        read = podlb_responses(data, FAST)
        run.counts["read"] += len(read.messages)
        run.counts["refused"] += bool(read.refused)
    run.report()
    assert run.is_single or min(run.counts["read"], run.counts["refused"]) > run.counts["inputs"] // 10


@given(st.randoms(use_true_random=False))
def test_any_request_shrunk(random: object) -> None:
    """The same, drawn by hypothesis, which finds the smallest choices that fail."""
    assert requests_problem(Streams(random).requests()) is None  # type: ignore[arg-type]


@given(st.randoms(use_true_random=False))
def test_any_response_shrunk(random: object) -> None:
    """The same for responses."""
    assert responses_problem(Streams(random).responses()) is None  # type: ignore[arg-type]
