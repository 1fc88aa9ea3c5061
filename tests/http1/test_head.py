"""Bytes → heads: where a head ends, what is read of it, what is refused."""

from __future__ import annotations

import pytest

from lb.http1.head import HeadLimits, HeadParser, find_head_end
from lb.http1.message import MessageError, RequestHead, ResponseHead

LIMITS = HeadLimits(head_bytes=200, target_bytes=40, fields=4)
BOTH = pytest.mark.parametrize("recogniser", [True, False], ids=["recogniser", "h11"])


class TestFindHeadEnd:
    def test_the_end_is_behind_the_empty_line(self) -> None:
        assert find_head_end(b"GET / HTTP/1.1\r\n\r\nrest\r\n\r\n", 0, LIMITS) == 18

    @pytest.mark.parametrize("data", [b"", b"G", b"GET / HTTP/1.1", b"GET / HTTP/1.1\r\nA: b\r\n", b"a\r\n\r"])
    def test_an_incomplete_head_has_none_yet(self, data: bytes) -> None:
        assert find_head_end(data, 0, LIMITS) == -1

    def test_an_empty_line_in_pieces_is_found(self) -> None:
        whole = b"GET / HTTP/1.1\r\nA: b\r\n\r\n"
        for scanned in range(len(whole)):
            assert find_head_end(whole, scanned, LIMITS) == len(whole), scanned

    def test_what_was_searched_is_not_searched_again(self) -> None:
        # It would be found if the search began at the start; the caller says that there is none up to 14.
        assert find_head_end(b"a: b\r\n\r\nc: d\r\nx", 14, LIMITS) == -1

    @pytest.mark.parametrize(
        "data", [b"GET / HTTP/1.1\n", b"\nGET", b"GET /\rA", b"GET / HTTP/1.1\r\r\n", b"A: b\r\n\nc"]
    )
    def test_a_bare_line_end_is_told_before_the_head_is_complete(self, data: bytes) -> None:
        with pytest.raises(MessageError) as caught:
            find_head_end(data, 0, LIMITS)
        assert (caught.value.status, caught.value.what) == (400, "bare_line_end")

    def test_a_bare_line_end_in_pieces_is_told(self) -> None:
        assert find_head_end(b"GET / HTTP/1.1\r", 0, LIMITS) == -1
        with pytest.raises(MessageError):
            find_head_end(b"GET / HTTP/1.1\rA", 15, LIMITS)
        with pytest.raises(MessageError):
            find_head_end(b"GET / HTTP/1.1\n", 14, LIMITS)

    def test_a_crlf_in_pieces_is_no_bare_line_end(self) -> None:
        assert find_head_end(b"GET / HTTP/1.1\r\n", 15, LIMITS) == -1

    def test_a_head_of_just_the_limit_is_read(self) -> None:
        head = b"GET / HTTP/1.1\r\nA: " + b"b" * 177 + b"\r\n\r\n"
        assert len(head) == 200
        assert find_head_end(head, 0, LIMITS) == 200
        assert find_head_end(head + b"x" * 1000, 0, LIMITS) == 200

    def test_a_head_over_the_limit_is_refused_complete_or_not(self) -> None:
        head = b"GET / HTTP/1.1\r\nA: " + b"b" * 178 + b"\r\n\r\n"
        for data in (head, head[:201] + b"b" * 10):
            with pytest.raises(MessageError) as caught:
                find_head_end(data, 0, LIMITS)
            assert (caught.value.status, caught.value.what) == (431, "head_too_large")
            assert "200 bytes" in caught.value.detail

    def test_an_incomplete_head_of_just_the_limit_is_waited_for(self) -> None:
        assert find_head_end(b"GET / HTTP/1.1\r\nA: ".ljust(200, b"b"), 0, LIMITS) == -1

    def test_an_endless_request_line_is_refused_as_a_target_that_is_too_long(self) -> None:
        assert find_head_end(b"GET /".ljust(72, b"a"), 0, LIMITS) == -1
        with pytest.raises(MessageError) as caught:
            find_head_end(b"GET /".ljust(73, b"a"), 0, LIMITS)
        assert (caught.value.status, caught.value.what) == (414, "target_too_long")


def parser(*, recogniser: bool, limits: HeadLimits | None = None) -> HeadParser:
    return HeadParser(limits or HeadLimits(), recogniser=recogniser)


Pairs = list[tuple[bytes, bytes]]


def pairs(lines: list[bytes]) -> Pairs:
    """Return names and values of field lines as they are sent."""
    return [(name, value) for name, colon, value in (line.partition(b": ") for line in lines) if colon]


def request_parts(head: RequestHead) -> tuple[bytes, bytes, int, Pairs]:
    return head.method, head.target, head.minor, pairs(head.lines)


def response_parts(head: ResponseHead) -> tuple[int, bytes, int, Pairs]:
    return head.status, head.reason, head.minor, pairs(head.lines)


def request_head(method: bytes, target: bytes, minor: int, *fields: tuple[bytes, bytes]) -> tuple[object, ...]:
    return method, target, minor, list(fields)


def response_head(status: int, reason: bytes, minor: int, *fields: tuple[bytes, bytes]) -> tuple[object, ...]:
    return status, reason, minor, list(fields)


HOST = (b"Host", b"a")

REQUESTS = [
    (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", request_head(b"GET", b"/", 1, HOST)),
    (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", request_head(b"GET", b"/", 0, HOST)),
    (b"GET / HTTP/1.0\r\n\r\n", request_head(b"GET", b"/", 0)),
    (b"get /A?b HTTP/1.1\r\nHost: a\r\n\r\n", request_head(b"get", b"/A?b", 1, HOST)),
    (b"PROPFIND-EXTENDED / HTTP/1.1\r\nHost: a\r\n\r\n", request_head(b"PROPFIND-EXTENDED", b"/", 1, HOST)),
    (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", request_head(b"OPTIONS", b"*", 1, HOST)),
    (b"GET http://b/c HTTP/1.1\r\nHost: a\r\n\r\n", request_head(b"GET", b"http://b/c", 1, HOST)),
    (b"GET / HTTP/1.1\r\nhOsT:a\r\n\r\n", request_head(b"GET", b"/", 1, (b"hOsT", b"a"))),
    (b"GET / HTTP/1.1\r\nHost: \t a \t\r\n\r\n", request_head(b"GET", b"/", 1, HOST)),
    (
        b"GET / HTTP/1.1\r\nHost: a\r\nB:\r\nC: c\r\n\r\n",
        request_head(b"GET", b"/", 1, HOST, (b"B", b""), (b"C", b"c")),
    ),
    (b"GET / HTTP/1.1\r\nHost: a\r\nB: x\ty\r\n\r\n", request_head(b"GET", b"/", 1, HOST, (b"B", b"x\ty"))),
    (b"GET / HTTP/1.1\r\nHost: a\r\nB: \xc3\xa9\r\n\r\n", request_head(b"GET", b"/", 1, HOST, (b"B", b"\xc3\xa9"))),
    (
        b"GET / HTTP/1.1\r\nA: 1\r\nHost: a\r\na: 2\r\nA: 1\r\n\r\n",
        request_head(b"GET", b"/", 1, (b"A", b"1"), HOST, (b"a", b"2"), (b"A", b"1")),
    ),
    (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 007\r\n\r\n",
        request_head(b"POST", b"/", 1, HOST, (b"Content-Length", b"007")),
    ),
    (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ChunKed\r\n\r\n",
        request_head(b"POST", b"/", 1, HOST, (b"Transfer-Encoding", b"chunked")),
    ),
]


@BOTH
@pytest.mark.parametrize(("raw", "head"), REQUESTS, ids=[raw.decode("latin-1")[:40] for raw, _ in REQUESTS])
def test_a_request_head_is_read(raw: bytes, head: tuple[object, ...], recogniser: bool) -> None:
    assert request_parts(parser(recogniser=recogniser).request(raw)) == head


def test_the_recogniser_is_used_unless_it_is_switched_off() -> None:
    assert HeadParser(HeadLimits()).has_recogniser is True
    assert HeadParser(HeadLimits(), recogniser=False).has_recogniser is False


def test_the_default_limits_are_those_of_the_configuration_table() -> None:
    assert HeadLimits() == (32768, 8192, 100)


def with_line(line: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n"


BAD_REQUESTS = [
    (b"GET /\r\nHost: a\r\n\r\n", 400, "start_line"),
    (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "start_line"),
    (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400, "start_line"),
    (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "start_line"),
    (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400, "start_line"),
    (b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "start_line"),
    (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "start_line"),
    (b"GET / HTTP/1.11\r\nHost: a\r\n\r\n", 400, "start_line"),
    (b"PRI * HTTP/2.0\r\n\r\n", 505, "version"),
    (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505, "version"),
    (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505, "version"),
    (with_line(b"A: b\nC: d"), 400, "bare_line_end"),
    (with_line(b"A: b\rC: d"), 400, "bare_line_end"),
    (with_line(b"A: b\r c"), 400, "bare_line_end"),
    (b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400, "bare_line_end"),
    (b"GET / HTTP/1.1\n\r\n\r\n", 400, "bare_line_end"),
    (with_line(b"A: b\r\n c"), 400, "folded_line"),
    (with_line(b"A: b\r\n\tc"), 400, "folded_line"),
    (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, "folded_line"),
    (with_line(b"A: b\x00c"), 400, "control_character"),
    (with_line(b"A: b\x01"), 400, "control_character"),
    (with_line(b"A: \x0bb"), 400, "control_character"),
    (with_line(b"A: \x1f"), 400, "control_character"),
    (with_line(b"A: b\x7f"), 400, "control_character"),
    (b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "control_character"),
    (with_line(b"A : b"), 400, "field_name"),
    (with_line(b"A b: c"), 400, "field_name"),
    (with_line(b": b"), 400, "field_name"),
    (with_line(b"\xc3\xa9: b"), 400, "field_name"),
    (with_line(b"A"), 400, "field_line"),
    (b"GET / HTTP/1.1\r\nA: b\r\n\r\n", 400, "host"),
    (with_line(b"Host: b"), 400, "host"),
    (with_line(b"Content-Length: 5\r\nContent-Length: 5"), 400, "content_length"),
    (with_line(b"Content-Length: 5\r\ncontent-length: 6"), 400, "content_length"),
    (with_line(b"Content-Length: 5, 5"), 400, "content_length"),
    (with_line(b"Content-Length: +5"), 400, "content_length"),
    (with_line(b"Content-Length: -5"), 400, "content_length"),
    (with_line(b"Content-Length: 0x5"), 400, "content_length"),
    (with_line(b"Content-Length: 5_0"), 400, "content_length"),
    (with_line(b"Content-Length:"), 400, "content_length"),
    (with_line(b"Content-Length: \xb2"), 400, "content_length"),
    (with_line(b"Content-Length: 1000000000000000000"), 400, "content_length"),
    (with_line(b"Transfer-Encoding: gzip"), 400, "transfer_encoding"),
    (with_line(b"Transfer-Encoding: chunked, chunked"), 400, "transfer_encoding"),
    (with_line(b"Transfer-Encoding: gzip, chunked"), 501, "transfer_encoding"),
    (with_line(b"Transfer-Encoding: chunked;a=b"), 400, "transfer_encoding"),
    (with_line(b"Transfer-Encoding:"), 400, "transfer_encoding"),
    (with_line(b"Transfer-Encoding: identity"), 400, "transfer_encoding"),
    (with_line(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), 400, "transfer_encoding"),
    (
        with_line(b"Content-Length: 5\r\nTransfer-Encoding: chunked"),
        400,
        "content_length_and_transfer_encoding",
    ),
    (
        with_line(b"transfer-encoding: chunked\r\ncontent-length: 5"),
        400,
        "content_length_and_transfer_encoding",
    ),
]
# The recogniser leaves Host to `prepare_request`, which has to count it in either case.
BAD_FOR_H11_ALONE = [(raw, status, what) for raw, status, what in BAD_REQUESTS if what == "host"]
BAD_FOR_BOTH = [case for case in BAD_REQUESTS if case not in BAD_FOR_H11_ALONE]


def ids(cases: list[tuple[bytes, int, str]]) -> list[str]:
    return [f"{what}-{at}" for at, (_, _, what) in enumerate(cases)]


@BOTH
@pytest.mark.parametrize(("raw", "status", "what"), BAD_FOR_BOTH, ids=ids(BAD_FOR_BOTH))
def test_a_bad_request_head_is_refused(raw: bytes, status: int, what: str, recogniser: bool) -> None:
    with pytest.raises(MessageError) as caught:
        parser(recogniser=recogniser).request(raw)
    assert (caught.value.status, caught.value.what) == (status, what)


@pytest.mark.parametrize(("raw", "status", "what"), BAD_FOR_H11_ALONE, ids=ids(BAD_FOR_H11_ALONE))
def test_h11_counts_the_host_fields(raw: bytes, status: int, what: str) -> None:
    with pytest.raises(MessageError) as caught:
        parser(recogniser=False).request(raw)
    assert (caught.value.status, caught.value.what) == (status, what)


@pytest.mark.parametrize(
    "line", [b"s3cret : b", b"s3cret", b"A: s3cret\x00", b"Content-Length: s3cret", b"Transfer-Encoding: s3cret"]
)
def test_the_detail_never_quotes_what_the_client_sent(line: bytes) -> None:
    with pytest.raises(MessageError) as caught:
        parser(recogniser=True).request(with_line(line))
    assert "s3cret" not in caught.value.detail + caught.value.what


RESPONSES = [
    (b"HTTP/1.1 200 OK\r\nServer: a\r\n\r\n", response_head(200, b"OK", 1, (b"Server", b"a"))),
    (b"HTTP/1.0 404 Not Found\r\n\r\n", response_head(404, b"Not Found", 0)),
    (b"HTTP/1.1 200 \r\n\r\n", response_head(200, b"", 1)),
    (b"HTTP/1.1 200\r\n\r\n", response_head(200, b"", 1)),
    (b"HTTP/1.1 200 d\xe9j\xe0 vu\r\n\r\n", response_head(200, b"d\xe9j\xe0 vu", 1)),
    (b"HTTP/1.1 599 x\r\n\r\n", response_head(599, b"x", 1)),
    (b"HTTP/1.1 100 Continue\r\n\r\n", response_head(100, b"Continue", 1)),
    (b"HTTP/1.1 103 Early Hints\r\nLink: b\r\n\r\n", response_head(103, b"Early Hints", 1, (b"Link", b"b"))),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", response_head(200, b"OK", 1, (b"Content-Length", b"5"))),
    (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: Chunked\r\n\r\n",
        response_head(200, b"OK", 1, (b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked")),
    ),
]


@BOTH
@pytest.mark.parametrize(("raw", "head"), RESPONSES, ids=[raw.decode("latin-1")[9:40] for raw, _ in RESPONSES])
def test_a_response_head_is_read(raw: bytes, head: tuple[object, ...], recogniser: bool) -> None:
    assert response_parts(parser(recogniser=recogniser).response(raw)) == head


def test_which_fields_must_be_looked_at_is_told_with_the_head() -> None:
    for recogniser in (True, False):
        asked = parser(recogniser=recogniser).request(
            b"GET / HTTP/1.1\r\nA: b\r\nHOST: c\r\nX_Real_IP: d\r\nDate: e\r\nhost2: f\r\nTE: \r\n\r\n"
        )
        assert asked.special == [
            (b"host", b"c", b"HOST: c"),
            (b"x_real_ip", b"d", b"X_Real_IP: d"),
            (b"te", b"", b"TE: "),
        ]
        answered = parser(recogniser=recogniser).response(b"HTTP/1.1 200 OK\r\nHost: c\r\nDate: e\r\nTE: x\r\n\r\n")
        assert answered.special == [(b"date", b"e", b"Date: e"), (b"te", b"x", b"TE: x")]


@BOTH
@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"HTTP/2.0 200 OK\r\n\r\n", "version"),
        (b"HTTP/1.2 200 OK\r\n\r\n", "version"),
        (b"HTTP/1.1 600 OK\r\n\r\n", "status"),
        (b"HTTP/1.1 099 OK\r\n\r\n", "malformed"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "start_line"),
        (b"HTTP/1.1  200 OK\r\n\r\n", "start_line"),
        (b"ICY 200 OK\r\n\r\n", "start_line"),
        (b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "field_name"),
        (b"HTTP/1.1 200 OK\r\nA\r\n\r\n", "field_line"),
        (b"HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", "bare_line_end"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "folded_line"),
        (b"HTTP/1.1 200 OK\r\nA: b\x00\r\n\r\n", "control_character"),
        (b"HTTP/1.1 200 O\x07K\r\n\r\n", "control_character"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "content_length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "transfer_encoding"),
    ],
)
def test_a_bad_response_head_is_refused(raw: bytes, what: str, recogniser: bool) -> None:
    with pytest.raises(MessageError) as caught:
        parser(recogniser=recogniser).response(raw)
    assert caught.value.what == what


@pytest.mark.parametrize("first", [b"\x16\x03\x01\x02\x00", b"\x00", b"\x80", b"(", b" GET"])
def test_what_cannot_begin_a_message_is_told_at_once(first: bytes) -> None:
    with pytest.raises(MessageError) as caught:
        find_head_end(first, 0, HeadLimits())
    assert (caught.value.status, caught.value.what) == (400, "start_line")


@pytest.mark.parametrize("first", [b"", b"G", b"\r", b"H", b"m-search"])
def test_what_can_begin_a_message_is_waited_for(first: bytes) -> None:
    assert find_head_end(first, 0, HeadLimits()) == -1
