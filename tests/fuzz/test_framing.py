"""Whole streams in any pieces; chunks there and back; nothing but MessageError for whatever comes."""

from __future__ import annotations

import re
from collections.abc import Callable

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.http1.framing import (
    CHUNKED,
    LENGTH,
    UNTIL_CLOSE,
    BodyDecoder,
    ChunkedBody,
    Framing,
    body_decoder,
    encode_chunk,
    encode_last_chunk,
)
from lb.http1.head import HeadLimits, HeadParser, find_head_end
from lb.http1.inbox import Inbox
from lb.http1.message import MessageError
from lb.http1.readers import RequestReader, ResponseReader
from tests.fuzz.heads import can_make, cut

LIMITS = HeadLimits()
PAYLOAD = st.binary(max_size=30) | st.sampled_from([b"\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"x" * 300])

_SIZE_ENDS = st.sampled_from([b""] * 6 + [b";a", b";a=b", b' ;a="b"', b"\t;", b";\xff", b" ", b"\t"])
_TRAILERS = st.sampled_from([b""] * 4 + [b"A: b\r\n", b"A:b \r\nHost: c\r\n", b"X-Y:\r\n", b"A : b\r\n", b" A: b\r\n"])
_NASTY = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"\x00", b" ", b";", b"0", b"f", b"g", b"-", b"\xff", b":", b"\r\n\r\n"]
)


@st.composite
def chunked_bodies(draw: st.DrawFn, *, bent: bool = True) -> bytes:
    """Return a body in the chunked coding, sometimes (with `bent`) one that is not quite right."""
    data = b""
    for payload in draw(st.lists(PAYLOAD.filter(bool), max_size=4)):
        size = b"%x" % len(payload)
        size = draw(st.sampled_from([size, size, size.upper(), b"000" + size]))
        data += size + (draw(_SIZE_ENDS) if bent else b"") + b"\r\n" + payload + b"\r\n"
    data += b"0\r\n" + (draw(_TRAILERS) if bent else draw(st.sampled_from([b"", b"A: b\r\n"]))) + b"\r\n"
    if bent and draw(st.integers(0, 2)) == 0:
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(_NASTY) + data[at + draw(st.integers(0, 1)) :]
    return data


def read_body(decoder: BodyDecoder, pieces: list[bytes]) -> tuple[object, ...]:
    """Return the payload, how it ended, the trailers, and what is left over."""
    payload: list[bytes] = []
    rest: list[bytes] = []
    done = False
    for piece in pieces:
        if done:
            rest.append(piece)
            continue
        try:
            body, done = decoder.feed(piece)
        except MessageError:
            # How much came before it depends on the pieces.
            return ("refused",)
        payload.append(body)
    return b"".join(payload), done, decoder.trailers, decoder.excess + b"".join(rest)


@pytest.mark.parametrize(
    "kind",
    [
        lambda read: read == ("refused",),
        lambda read: read[1:2] == (True,) and len(read[0]) > 2,
        lambda read: read[1:2] == (False,),
        lambda read: bool(read[2:3] and read[2]),
    ],
    ids=["refused", "complete", "incomplete", "with trailers"],
)
def test_the_strategy_makes_bodies_of_every_kind(kind: Callable[[tuple[object, ...]], bool]) -> None:
    assert can_make(chunked_bodies(), lambda data: kind(read_body(ChunkedBody(status=400), [data])))


@st.composite
def in_pieces(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> tuple[bytes, list[bytes]]:
    data = draw(whole)
    return data, draw(cut(data))


@given(in_pieces(st.builds(bytes.__add__, chunked_bodies(), st.binary(max_size=5))))
def test_a_chunked_body_in_any_pieces_is_the_same_body(case: tuple[bytes, list[bytes]]) -> None:
    whole, pieces = case
    assert read_body(ChunkedBody(status=400), pieces) == read_body(ChunkedBody(status=400), [whole])


@given(in_pieces(st.binary(max_size=40)), st.integers(0, 40))
def test_a_body_of_known_length_in_any_pieces_is_the_same_body(case: tuple[bytes, list[bytes]], length: int) -> None:
    whole, pieces = case
    expected = (whole[:length], len(whole) >= length, [], whole[length:])
    assert read_body(body_decoder(Framing(LENGTH, length), status=400), [whole]) == expected
    # An empty body is over before anything is fed.
    assert read_body(body_decoder(Framing(LENGTH, length), status=400), [*pieces, b""]) == expected


@given(st.lists(PAYLOAD), st.lists(st.sampled_from([b"A: b", b"X-Y: ", b"a: \xff"]), max_size=3), st.data())
def test_chunks_there_and_back(payloads: list[bytes], trailers: list[bytes], data: st.DataObject) -> None:
    encoded = b"".join(map(encode_chunk, payloads)) + encode_last_chunk(trailers)
    read = read_body(ChunkedBody(status=502), data.draw(cut(encoded)))
    assert read == (b"".join(payloads), True, trailers, b"")


def h11_body(data: bytes) -> tuple[bytes, int] | None:
    """Return the payload that h11 reads, and how much it leaves over; None if it refuses, or waits for more."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    payload = b""
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                return None
            if isinstance(event, h11.Data):
                payload += bytes(event.data)
    except h11.RemoteProtocolError:
        return None
    return payload, len(connection.trailing_data[0])


# RFC 9112 allows white space before an extension, and an extension may hold bytes that h11 does not match.
_LENIENT = re.compile(rb"[ \t]+;")


@given(chunked_bodies().filter(lambda data: _LENIENT.search(data) is None))
def test_what_is_accepted_is_what_h11_reads(data: bytes) -> None:
    read = read_body(ChunkedBody(status=400), [data])
    if read[1:2] == (True,):
        payload, _, _, excess = read
        assert isinstance(excess, bytes)
        assert h11_body(data) == (payload, len(excess))


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_nothing_but_a_message_error_comes_of_garbage_in_a_body(pieces: list[bytes]) -> None:
    for status in (400, 502):
        body = ChunkedBody(status=status)
        given_out = 0
        for number, piece in enumerate(pieces):
            try:
                payload, done = body.feed(piece)
            except MessageError as error:
                assert error.status == status  # noqa: PT017 - most garbage is refused, some is not
                break
            given_out += len(payload)
            assert given_out <= sum(map(len, pieces[: number + 1]))
            if done:
                break


class Reader:
    """Reads a client's stream the way a connection does: heads and bodies in turn."""

    def __init__(self) -> None:
        self.inbox = Inbox(RequestReader(HeadParser(LIMITS)))
        self.log: list[tuple[object, ...]] = []
        self._decoder: BodyDecoder | None = None
        self._body: list[bytes] = []

    def feed(self, data: bytes) -> None:
        self.inbox.data += data
        while True:
            if self._decoder is None:
                request = self.inbox.next_request(0)
                if request is None:
                    return
                self.log.append((request.prefix, request.framing))
                if request.has_body:
                    self._decoder = body_decoder(request.framing, status=400)
            else:
                payload, done = self._decoder.feed(self.inbox.take_all())
                self._body.append(payload)
                if not done:
                    return
                self.log.append((b"".join(self._body), list(self._decoder.trailers)))
                self.inbox.data = self._decoder.excess
                self._decoder, self._body = None, []

    def read(self, pieces: list[bytes]) -> list[tuple[object, ...]]:
        try:
            for piece in pieces:
                self.feed(piece)
        except MessageError:
            return [*self.log, ("refused",)]
        return [*self.log, (b"".join(self._body), self.inbox.data)]


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Return a whole request, with or without a body."""
    kind = draw(st.integers(0, 4))
    if kind < 2:
        return draw(st.sampled_from([b"", b"\r\n"])) + b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % draw(st.integers(0, 9))
    if kind == 2:
        body = draw(PAYLOAD)
        return b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    body = draw(chunked_bodies(bent=kind == 4))
    return b"PUT / HTTP/1.1\r\nHost: h\r\ntransfer-encoding:Chunked\r\n\r\n" + body


@given(in_pieces(st.lists(requests(), max_size=4).map(b"".join)))
def test_a_clients_stream_in_any_pieces_is_the_same_stream(case: tuple[bytes, list[bytes]]) -> None:
    whole, pieces = case
    assert Reader().read(pieces) == Reader().read([whole])


def read_response(pieces: list[bytes]) -> list[object]:
    """Read an endpoint's stream the way a connection does: interim responses, a head, a body."""
    reader = ResponseReader(HeadParser(LIMITS))
    buffer, scanned = b"", 0
    log: list[object] = []
    try:
        for at, piece in enumerate(pieces):
            buffer += piece
            while (end := find_head_end(buffer, scanned, LIMITS)) >= 0:
                response = reader.read(buffer[:end])
                buffer, scanned = buffer[end:], 0
                log.append((response.status, response.framing, response.plain))
                if response.status >= 200:
                    decoder = body_decoder(response.framing, status=502)
                    return [*log, read_body(decoder, [buffer, *pieces[at + 1 :]])]
            scanned = len(buffer)
    except MessageError:
        return [*log, "refused"]
    return [*log, buffer]


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    """Return a response, and sometimes interim ones before it."""
    data = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * draw(st.integers(0, 2))
    kind = draw(st.sampled_from([LENGTH, CHUNKED, UNTIL_CLOSE]))
    data += b"HTTP/1.1 200 OK\r\nDate: d\r\n"
    if kind == CHUNKED:
        return data + b"Transfer-Encoding: chunked\r\n\r\n" + draw(chunked_bodies())
    body = draw(PAYLOAD)
    if kind == LENGTH:
        return data + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    return data + b"\r\n" + body


@given(in_pieces(responses()))
def test_an_endpoints_stream_in_any_pieces_is_the_same_stream(case: tuple[bytes, list[bytes]]) -> None:
    whole, pieces = case
    assert read_response(pieces) == read_response([whole])
