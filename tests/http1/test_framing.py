"""How long a body is, and taking it out of the stream."""

from __future__ import annotations

import pytest

from lb.http1.framing import (
    CHUNKED,
    LENGTH,
    NO_BODY,
    UNTIL_CLOSE,
    ChunkedBody,
    CloseBody,
    Framing,
    LengthBody,
    body_decoder,
    encode_chunk,
    encode_last_chunk,
    request_framing,
    response_framing,
)
from lb.http1.message import Field, MessageError, RequestHead, ResponseHead

LENGTH_5 = (b"Content-Length", b"5")
IN_CHUNKS = (b"Transfer-Encoding", b"chunked")


def looked_at(fields: tuple[tuple[bytes, bytes], ...]) -> list[Field]:
    return [Field(name.lower(), value, b"%b: %b" % (name, value)) for name, value in fields]


def request(*fields: tuple[bytes, bytes], minor: int = 1) -> RequestHead:
    special = looked_at(fields)
    return RequestHead(b"POST", b"/", minor, [field.line for field in special], special)


def response(status: int, *fields: tuple[bytes, bytes], minor: int = 1) -> ResponseHead:
    special = looked_at(fields)
    return ResponseHead(status, b"x", minor, [field.line for field in special], special)


class TestRequestFraming:
    def test_neither_field_means_no_body(self) -> None:
        assert request_framing(request((b"Host", b"a"), (b"Connection", b"5"))) == Framing(NO_BODY, 0)

    def test_a_length(self) -> None:
        assert request_framing(request(LENGTH_5)) == Framing(LENGTH, 5)
        assert request_framing(request((b"CONTENT-LENGTH", b"0"))) == Framing(LENGTH, 0)
        assert request_framing(request((b"Content-Length", b"9" * 18), minor=0)) == Framing(LENGTH, 10**18 - 1)

    @pytest.mark.parametrize("value", [b"chunked", b"CHUNKED", b"Chunked"])
    def test_chunked_in_any_case_of_letters(self, value: bytes) -> None:
        assert request_framing(request((b"transfer-encoding", value))) == Framing(CHUNKED, 0)

    @pytest.mark.parametrize(
        ("head", "status", "what"),
        [
            (request(LENGTH_5, LENGTH_5), 400, "content_length"),
            (request(LENGTH_5, (b"content-length", b"6")), 400, "content_length"),
            (request((b"Content-Length", b"")), 400, "content_length"),
            (request((b"Content-Length", b"+5")), 400, "content_length"),
            (request((b"Content-Length", b"5 ")), 400, "content_length"),
            (request((b"Content-Length", b"5\n")), 400, "content_length"),
            (request((b"Content-Length", b"0x5")), 400, "content_length"),
            (request((b"Content-Length", b"1_0")), 400, "content_length"),
            (request((b"Content-Length", b"5, 5")), 400, "content_length"),
            (request((b"Content-Length", b"1" * 19)), 400, "content_length"),
            (request(IN_CHUNKS, IN_CHUNKS), 400, "transfer_encoding"),
            (request((b"Transfer-Encoding", b"chunked, chunked")), 400, "transfer_encoding"),
            (request((b"Transfer-Encoding", b"gzip, chunked")), 501, "transfer_encoding"),
            (request((b"Transfer-Encoding", b"identity")), 400, "transfer_encoding"),
            (request((b"Transfer-Encoding", b"")), 400, "transfer_encoding"),
            (request((b"Transfer-Encoding", b"xchunked")), 400, "transfer_encoding"),
            (request(IN_CHUNKS, minor=0), 400, "transfer_encoding"),
            (request(LENGTH_5, IN_CHUNKS), 400, "content_length_and_transfer_encoding"),
            (request(IN_CHUNKS, LENGTH_5), 400, "content_length_and_transfer_encoding"),
        ],
    )
    def test_wherever_two_readers_could_disagree_it_is_refused(self, head: RequestHead, status: int, what: str) -> None:
        with pytest.raises(MessageError) as caught:
            request_framing(head)
        assert (caught.value.status, caught.value.what) == (status, what)


class TestResponseFraming:
    @pytest.mark.parametrize("status", [100, 103, 199, 204, 304])
    def test_some_statuses_never_have_a_body(self, status: int) -> None:
        assert response_framing(response(status)) == (Framing(NO_BODY), True)
        assert response_framing(response(status, LENGTH_5)) == (Framing(NO_BODY), True)
        assert response_framing(response(status, IN_CHUNKS)) == (Framing(NO_BODY), True)
        assert response_framing(response(status, IN_CHUNKS, LENGTH_5)) == (Framing(NO_BODY), False)

    @pytest.mark.parametrize("status", [200, 203, 205, 206, 301, 303, 305, 404, 500])
    def test_all_others_do(self, status: int) -> None:
        assert response_framing(response(status)) == (Framing(UNTIL_CLOSE), False)
        assert response_framing(response(status, LENGTH_5)) == (Framing(LENGTH, 5), True)
        assert response_framing(response(status, (b"transfer-encoding", b"CHUNKED"))) == (Framing(CHUNKED), True)

    def test_chunked_wins_over_a_length_but_nothing_may_follow(self) -> None:
        assert response_framing(response(200, LENGTH_5, IN_CHUNKS)) == (Framing(CHUNKED), False)
        assert response_framing(response(200, IN_CHUNKS, LENGTH_5)) == (Framing(CHUNKED), False)

    def test_the_same_length_may_stand_twice(self) -> None:
        assert response_framing(response(200, LENGTH_5, LENGTH_5)) == (Framing(LENGTH, 5), True)

    def test_http_1_0_may_have_a_length(self) -> None:
        assert response_framing(response(200, LENGTH_5, minor=0)) == (Framing(LENGTH, 5), True)

    @pytest.mark.parametrize(
        ("head", "what"),
        [
            (response(200, LENGTH_5, (b"Content-Length", b"6")), "content_length"),
            (response(200, (b"Content-Length", b"-1")), "content_length"),
            (response(200, (b"Content-Length", b"")), "content_length"),
            (response(200, (b"Content-Length", b"1" * 19)), "content_length"),
            (response(200, IN_CHUNKS, IN_CHUNKS), "transfer_encoding"),
            (response(200, (b"Transfer-Encoding", b"gzip")), "transfer_encoding"),
            (response(204, (b"Transfer-Encoding", b"gzip")), "transfer_encoding"),
            (response(200, IN_CHUNKS, minor=0), "transfer_encoding"),
        ],
    )
    def test_a_bad_one_is_told_as_502(self, head: ResponseHead, what: str) -> None:
        with pytest.raises(MessageError) as caught:
            response_framing(head)
        assert (caught.value.status, caught.value.what) == (502, what)


def test_each_framing_has_its_decoder() -> None:
    decoder = body_decoder(Framing(LENGTH, 5), status=400)
    assert isinstance(decoder, LengthBody)
    assert decoder.remaining == 5
    assert isinstance(body_decoder(Framing(CHUNKED), status=400), ChunkedBody)
    assert isinstance(body_decoder(Framing(UNTIL_CLOSE), status=400), CloseBody)


class TestLengthBody:
    def test_it_ends_with_its_last_byte(self) -> None:
        body = LengthBody(5)
        assert body.feed(b"ab") == (b"ab", False)
        assert body.feed(b"") == (b"", False)
        assert body.feed(b"cde") == (b"cde", True)
        assert body.excess == b""
        assert body.remaining == 0

    def test_what_stands_behind_it_is_not_part_of_it(self) -> None:
        body = LengthBody(3)
        assert body.feed(b"abcGET /") == (b"abc", True)
        assert body.excess == b"GET /"

    def test_an_empty_body_is_over_at_once(self) -> None:
        body = LengthBody(0)
        assert body.feed(b"") == (b"", True)
        body = LengthBody(0)
        assert body.feed(b"GET") == (b"", True)
        assert body.excess == b"GET"

    def test_it_has_no_trailers(self) -> None:
        assert LengthBody(1).trailers == []

    def test_bytes_that_went_another_way_count_too(self) -> None:
        body = LengthBody(10)
        assert body.feed(b"abc") == (b"abc", False)
        assert body.remaining == 7
        assert not body.passed(4)
        assert body.remaining == 3
        assert not body.passed(2)
        assert body.feed(b"xyz") == (b"x", True)
        assert body.excess == b"yz"
        assert body.remaining == 0

    def test_the_last_byte_may_go_another_way(self) -> None:
        body = LengthBody(5)
        assert not body.passed(4)
        assert body.passed(1)
        assert body.remaining == 0
        assert body.excess == b""


def test_of_other_bodies_it_is_not_known_what_remains() -> None:
    chunked, until_close = ChunkedBody(status=502), CloseBody()
    for body in (chunked, until_close):
        assert body.remaining == 0
    assert chunked.feed(b"400\r\nabc") == (b"abc", False)
    assert until_close.feed(b"abc") == (b"abc", False)
    assert (chunked.remaining, until_close.remaining) == (0, 0)


def test_only_the_end_of_the_connection_ends_a_close_delimited_body() -> None:
    body = CloseBody()
    assert body.feed(b"abc") == (b"abc", False)
    assert body.feed(b"") == (b"", False)
    assert body.excess == b""
    assert body.trailers == []


def test_chunks_are_written_with_their_size_in_hexadecimal() -> None:
    assert encode_chunk(b"hello") == b"5\r\nhello\r\n"
    assert encode_chunk(b"a" * 26) == b"1a\r\n" + b"a" * 26 + b"\r\n"


def test_an_empty_payload_is_no_chunk_since_it_would_end_the_body() -> None:
    assert encode_chunk(b"") == b""


def test_the_last_chunk_carries_the_trailers() -> None:
    assert encode_last_chunk([]) == b"0\r\n\r\n"
    assert encode_last_chunk([b"A: b", b"C: d"]) == b"0\r\nA: b\r\nC: d\r\n\r\n"
