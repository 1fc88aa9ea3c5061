"""The lines of usual exchanges: the same that are written of any other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.access_log import json_line, text_line
from lb.endpoint import make_endpoint
from lb.entries import Entries
from lb.errors import EndReason
from lb.exchange import Exchange
from lb.http1.forwarding import Request
from lb.http1.framing import NO_BODY, Framing
from lb.http1.message import RequestHead
from lb.plain_lines import PlainLines

WALL = 1795512600.5
FORMS = pytest.mark.parametrize("form", ["text", "json"])


def exchange(
    target: bytes = b"/cart?a=1", *, method: bytes = b"GET", minor: int = 1, own_id: bytes | None = None
) -> Exchange:
    request = Request(RequestHead(method, target, minor, [], []), Framing(NO_BODY), b"")
    request.request_id = own_id
    made = Exchange(request, 100.0, True)
    made.request_id = own_id or b"939f46d65435abc200000001"
    made.client = b"10.1.2.3"
    made.endpoint = make_endpoint("10.0.0.7", 8080)
    made.upstream_ready = 100.000012
    made.answered(200, 100.0204)
    made.first_byte = 100.020112
    made.sent = 5120
    return made


def both(form: Any, made: Exchange, wall: float = WALL) -> tuple[Any, Any]:
    """Return what the quick line says, and what the other would."""
    quick = PlainLines(form, lambda: wall).of(made)
    entry = Entries(lambda: wall).of(made)
    assert quick is not None
    assert quick.count(b"\n") == 1
    if form == "text":
        return quick, text_line(entry)
    return json.loads(quick), json.loads(json_line(entry))


@FORMS
def test_a_usual_one(form: Any) -> None:
    quick, slow = both(form, exchange())
    assert quick == slow


@FORMS
@given(
    target=st.binary(min_size=1, max_size=20),
    method=st.binary(min_size=1, max_size=8),
    own_id=st.none() | st.binary(min_size=1, max_size=10),
    wall=st.floats(1e9, 4e9),
    minor=st.sampled_from([0, 1]),
)
def test_whatever_is_sent(
    form: Any, target: bytes, method: bytes, own_id: bytes | None, wall: float, minor: int
) -> None:
    quick, slow = both(form, exchange(target, method=method, minor=minor, own_id=own_id), wall)
    assert quick == slow


@FORMS
def test_a_request_that_comes_again_is_said_in_the_same_words(form: Any) -> None:
    lines = PlainLines(form, lambda: WALL)
    made = exchange()
    first = lines.of(made)
    assert made.request.log_words
    assert lines.of(made) == first


@FORMS
def test_of_what_is_unusual_there_is_more_to_say(form: Any) -> None:
    lines = PlainLines(form, lambda: WALL)
    connected, tried, failed, alone = (exchange() for _ in range(4))
    connected.connect_seconds = 0.001
    tried.attempts = object()
    failed.end_reason = EndReason.CLIENT_GONE
    alone.endpoint = None
    assert [lines.of(made) for made in (connected, tried, failed, alone)] == [None] * 4


def test_the_names_of_endpoints_are_bounded() -> None:
    lines = PlainLines("text", lambda: WALL)
    for port in range(5000):
        made = exchange()
        made.endpoint = make_endpoint("10.0.0.7", port)
        line = lines.of(made)
        assert line is not None
        assert b" via=10.0.0.7:%d " % port in line
    assert len(lines._authorities) <= 4096
