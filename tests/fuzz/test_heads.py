"""The recogniser beside h11; heads in any pieces; nothing but MessageError for whatever comes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.http1.forwarding import Request
from lb.http1.head import HeadLimits, HeadParser, find_head_end
from lb.http1.inbox import Inbox
from lb.http1.message import MessageError, RequestHead, ResponseHead
from lb.http1.readers import RequestReader, ResponseReader
from lb.http1.recogniser import Recogniser
from lb.http1.replies import REASONS
from lb.http1.responses import Response
from tests.fuzz.heads import can_make, cut, request_heads, response_heads

LIMITS = HeadLimits()
SMALL = HeadLimits(head_bytes=120, target_bytes=20, fields=4)


def h11_request(raw: bytes) -> RequestHead | MessageError:
    try:
        return HeadParser(LIMITS, recogniser=False).request(raw)
    except MessageError as error:
        return error


def h11_response(raw: bytes) -> ResponseHead | MessageError:
    try:
        return HeadParser(LIMITS, recogniser=False).response(raw)
    except MessageError as error:
        return error


@pytest.mark.parametrize(
    "kind",
    [
        lambda raw: Recogniser().request(raw) is not None,
        lambda raw: Recogniser().request(raw) is None and isinstance(h11_request(raw), RequestHead),
        lambda raw: isinstance(h11_request(raw), MessageError),
    ],
    ids=["recognised", "for h11", "refused"],
)
def test_the_strategy_makes_requests_of_every_kind(kind: Callable[[bytes], bool]) -> None:
    assert can_make(request_heads(), kind)


@pytest.mark.parametrize(
    "kind",
    [
        lambda raw: Recogniser().response(raw) is not None,
        lambda raw: Recogniser().response(raw) is None and isinstance(h11_response(raw), ResponseHead),
        lambda raw: isinstance(h11_response(raw), MessageError),
    ],
    ids=["recognised", "for h11", "refused"],
)
def test_the_strategy_makes_responses_of_every_kind(kind: Callable[[bytes], bool]) -> None:
    assert can_make(response_heads(), kind)


@given(request_heads())
def test_the_recogniser_never_accepts_a_request_that_h11_reads_otherwise(raw: bytes) -> None:
    recogniser = Recogniser()
    head = recogniser.request(raw)
    # The second time, lines come from memory.
    assert recogniser.request(raw) == head
    if head is not None:
        assert h11_request(raw) == head


@given(response_heads())
def test_the_recogniser_never_accepts_a_response_that_h11_reads_otherwise(raw: bytes) -> None:
    recogniser = Recogniser()
    head = recogniser.response(raw)
    assert recogniser.response(raw) == head
    if head is not None:
        assert h11_response(raw) == head


@given(st.lists(request_heads(), min_size=2, max_size=4))
def test_what_the_recogniser_remembers_changes_nothing(heads: list[bytes]) -> None:
    recogniser = Recogniser()
    for raw in heads:
        assert recogniser.request(raw) == Recogniser().request(raw)


def prepared_request(raw: bytes, *, recogniser: bool) -> Request | MessageError:
    try:
        return RequestReader(HeadParser(LIMITS, recogniser=recogniser)).read(raw)
    except MessageError as error:
        return error


@given(request_heads())
def test_what_is_forwarded_does_not_depend_on_who_read_the_request(raw: bytes) -> None:
    fast, slow = (prepared_request(raw, recogniser=recogniser) for recogniser in (True, False))
    if isinstance(fast, Request) or isinstance(slow, Request):
        assert {slot: getattr(fast, slot) for slot in Request.__slots__} == {
            slot: getattr(slow, slot) for slot in Request.__slots__
        }
    else:
        assert fast.status in REASONS
        assert slow.status in REASONS


def prepared_response(raw: bytes, *, recogniser: bool) -> Response | MessageError:
    try:
        return ResponseReader(HeadParser(LIMITS, recogniser=recogniser)).read(raw)
    except MessageError as error:
        return error


@given(response_heads())
def test_what_is_forwarded_does_not_depend_on_who_read_the_response(raw: bytes) -> None:
    fast, slow = (prepared_response(raw, recogniser=recogniser) for recogniser in (True, False))
    if isinstance(fast, Response) or isinstance(slow, Response):
        assert {slot: getattr(fast, slot) for slot in Response.__slots__} == {
            slot: getattr(slow, slot) for slot in Response.__slots__
        }
    else:
        assert fast.status == slow.status == 502


def heads_in(pieces: list[bytes], limits: HeadLimits) -> list[object]:
    """Return what an inbox takes out of `pieces`, one after the other, and how it ended."""
    inbox = Inbox(RequestReader(HeadParser(limits)))
    taken: list[object] = []
    try:
        for piece in pieces:
            inbox.data += piece
            while (request := inbox.next_request(0)) is not None:
                taken.append((request.method, request.target, request.framing, request.prefix))
    except MessageError:
        taken.append("refused")
    else:
        taken.append(inbox.data)
    return taken


@st.composite
def pipelined(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    heads = draw(st.lists(request_heads(), min_size=1, max_size=3))
    empty = draw(st.sampled_from([b"", b"", b"\r\n", b"\r\n\r\n", b"\r\n\r\n\r\n"]))
    data = empty.join([b"", *heads])
    return data, draw(cut(data))


@given(pipelined())
def test_heads_in_any_pieces_are_the_same_heads(case: tuple[bytes, list[bytes]]) -> None:
    whole, pieces = case
    assert heads_in(pieces, LIMITS) == heads_in([whole], LIMITS)


@given(pipelined())
def test_near_the_limits_too(case: tuple[bytes, list[bytes]]) -> None:
    whole, pieces = case
    assert heads_in(pieces, SMALL) == heads_in([whole], SMALL)


@given(st.binary(max_size=60) | request_heads(), st.booleans())
def test_nothing_but_a_message_error_comes_of_garbage_in_a_request(data: bytes, recogniser: bool) -> None:
    outcome = prepared_request(data.split(b"\r\n\r\n")[0] + b"\r\n\r\n", recogniser=recogniser)
    if isinstance(outcome, MessageError):
        assert outcome.status in REASONS
        assert outcome.what
        assert outcome.detail


@given(st.binary(max_size=60) | response_heads(), st.booleans())
def test_nothing_but_a_message_error_comes_of_garbage_in_a_response(data: bytes, recogniser: bool) -> None:
    outcome = prepared_response(data.split(b"\r\n\r\n")[0] + b"\r\n\r\n", recogniser=recogniser)
    assert outcome.status == 502 if isinstance(outcome, MessageError) else 100 <= outcome.status <= 599


@given(st.binary(max_size=200), st.integers(0, 200))
def test_the_end_of_a_head_is_behind_its_first_empty_line(data: bytes, scanned: int) -> None:
    scanned = min(scanned, len(data))
    try:
        assert find_head_end(data[:scanned], 0, SMALL) in (-1, data.find(b"\r\n\r\n") + 4)
        if b"\r\n\r\n" in data[:scanned]:
            scanned = 0
        end = find_head_end(data, scanned, SMALL)
    except MessageError:
        return
    first = data.find(b"\r\n\r\n")
    assert end == (-1 if first < 0 else first + 4)
