"""The recogniser against h11 against httptools, on heads and on framing: who accepts, reads the same message.

What podlb accepts, by either of its readers, h11 by itself and httptools (llhttp in its strict mode) accept as well:
the same start line, the same fields, the same body, and the next message begins at the same byte. podlb may refuse
more, and what is not complete yet it may refuse later.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.http1.head import HeadParser
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


_FRAMING_TRAILER = re.compile(rb"(?is)\r\n\r\n.*\n(content-length|transfer-encoding|connection|upgrade):")

# Refusals that say nothing about where a message ends: what the other reader says, where it is known to, and why.
KNOWN = (
    # RFC 9112, section 7.1.1: white space before the semicolon of a chunk extension is bad, but must be read.
    ("illegal chunk header", re.compile(rb"\n[0-9A-Fa-f]+[ \t]+;")),
    # The same for all bad white space in chunk extensions.
    ("HttpParserError: Invalid character in chunk", re.compile(rb"\n[0-9A-Fa-f]+[^\n]*([ \t];|;[ \t]|[ \t]=|=[ \t])")),
    # httptools has a list of methods; RFC 9110, section 9.1, says that there may be others.
    ("HttpParserInvalidMethodError", re.compile(rb"")),
    # PRI may only begin the preface of HTTP/2; to us it is a method like others, before HTTP/1.1.
    ("HttpParserError: Expected HTTP/2 Connection Preface", re.compile(rb"^PRI ")),
    ("it is not complete", re.compile(rb"^PRI ")),
    # It takes a tab behind `chunked` for a part of it (RFC 9110, section 5.5: white space around a value is none).
    ("it is not complete", re.compile(rb"(?i)\ntransfer-encoding:[^\n]*\t\r")),
    ("HttpParserError: ", re.compile(rb"(?i)\ntransfer-encoding:[^\n]*\t\r")),
    # It refuses some characters in targets that are not in RFC 3986, but that clients send: they are passed on.
    ("HttpParserInvalidURLError", re.compile(rb"")),
    # It ends its work at an Upgrade, whoever asks for what.
    ("upgrade", re.compile(rb"(?i)\nupgrade:")),
    # Fields of framing in trailers mean nothing, and are dropped (RFC 9110, section 6.5.1). They read them.
    ("Only Transfer-Encoding: chunked", _FRAMING_TRAILER),
    ("bad Content-Length", _FRAMING_TRAILER),
    ("multiple Transfer-Encoding", _FRAMING_TRAILER),
    ("HttpParserError: ", _FRAMING_TRAILER),
    # A response may say a length as a list of equal ones (RFC 9110, section 8.6).
    ("HttpParserError: Invalid character in Content-Length", re.compile(rb"(?i)^HTTP[^\0]*\ncontent-length:[^\n]*,")),
    # A response with both is read by its coding (rule 3).
    ("HttpParserError: Content-Length can't be present with", re.compile(rb"^HTTP")),
    ("HttpParserError: Transfer-Encoding can't be present with", re.compile(rb"^HTTP")),
    # A response that says the same length twice has that length (RFC 9112, section 6.3, rule 5).
    ("HttpParserError: Duplicate Content-Length", re.compile(rb"(?is)^HTTP.*\ncontent-length:.*\ncontent-length:")),
)


def is_known(raw: bytes, refusal: str) -> bool:
    """Is it known that another reader refuses `raw` so?"""
    return any(refusal.startswith(said) and where.search(raw) for said, where in KNOWN)


def problem_of(data: bytes, streams: tuple[Stream, Stream], *, responses: bool) -> str | None:
    """Say in what the readers differ about `data`, if they do."""
    fast, slow = streams
    if fast.messages != slow.messages:
        return f"the recogniser reads {fast.messages}, h11 {slow.messages}"
    if bool(fast.refused) != bool(slow.refused):
        return f"the recogniser says {fast.refused!r}, h11 {slow.refused!r}"
    llhttp = Llhttp(responses=responses)
    for mine in fast.messages:
        raw = data[mine.begin : mine.end]
        if mine.end < 0:
            # Others find an end already that we don't take for one, or a fault that we shall find later.
            break
        alone = h11_response(raw) if responses else h11_request(raw)
        if isinstance(alone, str):
            if is_known(raw, alone):
                continue
            return f"h11 refuses: {alone}"
        if difference := same_message(mine, alone):
            return f"h11 reads another {difference}"
        if alone.end != len(raw):
            return f"h11 ends it at {alone.end}, not {len(raw)}"
        theirs = llhttp.read(raw, complete=True)
        if isinstance(theirs, str):
            if not is_known(raw, theirs):
                return f"httptools: {theirs}"
            llhttp = Llhttp(responses=responses)
            continue
        if difference := same_message(mine, theirs):
            return f"httptools reads another {difference}"
        if _FRAMING_TRAILER.search(raw) or not mine.start[2]:
            # It reads `Connection: close` there, and takes a 1xx in HTTP/1.0 for the last response.
            llhttp = Llhttp(responses=responses)
    return None


def requests_problem(data: bytes) -> str | None:
    """Say in what the readers differ about a client's stream, if they do."""
    return problem_of(data, (podlb_requests(data, FAST), podlb_requests(data, SLOW)), responses=False)


def responses_problem(data: bytes) -> str | None:
    """Say in what the readers differ about an endpoint's stream, if they do."""
    return problem_of(data, (podlb_responses(data, FAST), podlb_responses(data, SLOW)), responses=True)


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
    assert min(run.counts["read"], run.counts["refused"]) > run.counts["inputs"] // 10


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
    assert min(run.counts["read"], run.counts["refused"]) > run.counts["inputs"] // 10


@given(st.randoms(use_true_random=False))
def test_any_request_shrunk(random: object) -> None:
    """The same, drawn by hypothesis, which finds the smallest choices that fail."""
    assert requests_problem(Streams(random).requests()) is None  # type: ignore[arg-type]


@given(st.randoms(use_true_random=False))
def test_any_response_shrunk(random: object) -> None:
    """The same for responses."""
    assert responses_problem(Streams(random).responses()) is None  # type: ignore[arg-type]
