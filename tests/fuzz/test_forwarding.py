"""What the other side reads in what we send is what we read: one message in, the same one message out."""

from __future__ import annotations

import h11
from hypothesis import assume, given
from hypothesis import strategies as st

from lb.endpoint import Endpoint, make_endpoint
from lb.http1.forwarding import Request
from lb.http1.framing import CHUNKED, LENGTH, NO_BODY, UNTIL_CLOSE, Framing, encode_chunk, encode_last_chunk
from lb.http1.head import HeadLimits, HeadParser
from lb.http1.readers import RequestReader, ResponseReader
from lb.http1.responses import Response
from tests.fuzz.heads import good_request_heads, good_response_heads

Pairs = list[tuple[bytes, bytes]]

ENDPOINTS = st.sampled_from([make_endpoint("10.0.0.1", 8080), make_endpoint("fd00::1", 80)])
CLIENTS = st.sampled_from([b"192.0.2.1", b"2001:db8::1"])
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"

# What a client cannot say to an endpoint through us: about its own connection, or about how it came here.
_HOP_BY_HOP = set(b"connection keep-alive proxy-connection te upgrade http2-settings transfer-encoding".split())
_ADDED = set(
    b"content-length transfer-encoding connection te "
    b"x-forwarded-host x-forwarded-proto via x-forwarded-for x-request-id".split()
)
_CLAIMS = set(b"forwarded x-real-ip x-request-id".split())


def is_end_to_end(name: bytes, named: set[bytes]) -> bool:
    key = name.lower()
    dashed = key.replace(b"_", b"-")
    ours = dashed in (b"host", b"content-length") or dashed.startswith(b"x-forwarded-") or dashed in _CLAIMS
    return not (ours or key in named or dashed in _HOP_BY_HOP)


def named_in_connection(fields: Pairs) -> set[bytes]:
    options = b",".join(value for name, value in fields if name.lower() == b"connection")
    return {option.strip(b" \t").lower() for option in options.split(b",")}


def values(fields: Pairs, key: bytes) -> list[bytes]:
    return [value for name, value in fields if name.lower() == key]


def read_request(raw: bytes) -> Request:
    return RequestReader(HeadParser(HeadLimits())).read(raw)


def read_response(raw: bytes) -> Response:
    return ResponseReader(HeadParser(HeadLimits())).read(raw)


def body_of(framing: Framing) -> bytes:
    """Return a body as it is sent in `framing`."""
    if framing.kind == CHUNKED:
        return encode_chunk(b"GET /smuggled HTTP/1.1\r\n\r\n") + encode_last_chunk([])
    return b"x" * framing.length


def h11_events(connection: h11.Connection, data: bytes) -> list[object]:
    """Return everything that h11 reads in `data`."""
    connection.receive_data(data)
    events: list[object] = []
    while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
        events.append(event)
    return events


def received(raw: bytes) -> h11.Request:
    """Return how h11 by itself reads the head that a client sent."""
    connection = h11.Connection(h11.SERVER)
    [event, *_] = h11_events(connection, raw)
    assert isinstance(event, h11.Request)
    return event


def check_lines(head: bytes) -> None:
    """No line that we send can be taken for another, or for the end of the head."""
    assert head.endswith(b"\r\n\r\n")
    lines = head[:-4].split(b"\r\n")
    assert all(lines)
    for line in lines:
        assert not {b"\r", b"\n", b"\x00"} & {bytes([byte]) for byte in line}


def origin_form(method: bytes, target: bytes) -> bytes:
    """Return what an origin server is asked for (RFC 9112, section 3.2)."""
    if target.startswith(b"/") or target == b"*":
        return target
    rest = target.partition(b"://")[2]
    at = min((rest.index(mark) for mark in (b"/", b"?") if mark in rest), default=len(rest))
    path = rest[at:]
    if not path:
        return b"*" if method == b"OPTIONS" else b"/"
    return path if path.startswith(b"/") else b"/" + path


@given(good_request_heads(), ENDPOINTS, CLIENTS)
def test_the_endpoint_reads_the_request_that_we_read(raw: bytes, endpoint: Endpoint, client: bytes) -> None:
    # What these come to has tests of its own (tests/http1/test_forwarding_hops.py).
    assume(not {b"expect", b"max-forwards"} & {name.lower() for name, _ in received(raw).headers.raw_items()})
    request = read_request(raw)
    head = request.head_for(endpoint, client, b"id-1")
    check_lines(head)

    connection = h11.Connection(h11.SERVER)
    events = h11_events(connection, head + body_of(request.framing))
    # One message in, one message out.
    assert [type(event) for event in events if not isinstance(event, h11.Data)] == [h11.Request, h11.EndOfMessage]
    assert connection.trailing_data == (b"", False)

    asked, [sent, *_] = received(raw), events
    assert isinstance(sent, h11.Request)
    assert sent.method == asked.method == request.method
    assert sent.target == origin_form(asked.method, asked.target)
    assert sent.http_version == b"1.1"

    theirs, ours = asked.headers.raw_items(), sent.headers.raw_items()
    named = named_in_connection(theirs)
    kept = [(name, value) for name, value in theirs if is_end_to_end(name, named)]
    # Ours come first (Host) and last; what is between is theirs, in their order.
    assert ours[0][0] == b"Host"
    assert ours[1 : 1 + len(kept)] == kept
    added = {name.lower() for name, _ in ours[1 + len(kept) :]}
    assert added <= _ADDED

    # An absolute target says which host is meant, else Host does; HTTP/1.0 may leave it to us.
    authority = (
        b"" if asked.target.startswith(b"/") else asked.target.partition(b"://")[2].split(b"/")[0].split(b"?")[0]
    )
    expected = [authority] if authority else values(theirs, b"host")
    assert values(ours, b"host") == (expected or [endpoint.authority.encode()])
    assert values(ours, b"x-forwarded-host") == expected
    assert values(ours, b"x-forwarded-for") == [client]
    assert values(ours, b"x-request-id") == [b"id-1"]
    assert values(ours, b"via")[-1] == b"1.%b podlb" % asked.http_version[2:]
    members = {m.strip(b" \t").lower() for value in values(theirs, b"te") for m in value.split(b",")}
    takes_trailers = b"trailers" in members and asked.http_version == b"1.1"
    assert values(ours, b"te") == ([b"trailers"] if takes_trailers else [])
    assert values(ours, b"connection") == ([b"TE"] if takes_trailers else [])
    length = {LENGTH: [b"%d" % request.framing.length]}.get(request.framing.kind, [])
    assert values(ours, b"content-length") == length
    assert values(ours, b"transfer-encoding") == ([b"chunked"] if request.framing.kind == CHUNKED else [])


@given(good_response_heads(), st.booleans(), st.sampled_from(["GET", "HEAD"]))
def test_the_client_reads_the_response_that_we_read(raw: bytes, close: bool, method: str) -> None:
    response = read_response(raw)
    # What `relay` sends: bodies that only the close ends are sent in chunks.
    framing = Framing(CHUNKED) if response.framing.kind == UNTIL_CLOSE else response.framing
    if method == "HEAD":
        framing = Framing(NO_BODY)
    head = response.head_for(framing=framing, close=close, date=DATE)
    check_lines(head)
    if response.plain is not None and not close and framing == response.framing:
        assert response.plain == head

    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
    connection.send(h11.EndOfMessage())
    events = h11_events(connection, head + body_of(framing))
    assert [type(event) for event in events if not isinstance(event, h11.Data)] == [h11.Response, h11.EndOfMessage]
    assert connection.trailing_data == (b"", False)

    sent = events[0]
    assert isinstance(sent, h11.Response)
    asked = h11.Connection(h11.CLIENT)
    asked.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    asked.send(h11.EndOfMessage())
    [told, *_] = h11_events(asked, raw)
    assert isinstance(told, h11.Response)
    assert (sent.status_code, sent.reason) == (told.status_code, told.reason)

    theirs, ours = told.headers.raw_items(), sent.headers.raw_items()
    dropped = named_in_connection(theirs) | _HOP_BY_HOP - {b"http2-settings"} | {b"content-length"}
    kept = [(name, value) for name, value in theirs if name.lower() not in dropped]
    assert ours[: len(kept)] == kept
    assert len(values(ours, b"date")) == max(1, len(values(kept, b"date")))
    assert values(ours, b"connection") == ([b"close"] if close else [])
    assert values(ours, b"transfer-encoding") == ([b"chunked"] if framing.kind == CHUNKED else [])
    assert len(values(ours, b"content-length")) <= (framing.kind in (LENGTH, NO_BODY))
