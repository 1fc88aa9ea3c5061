"""The response head we received → the response head we send."""

from __future__ import annotations

import pytest

from lb.http1.framing import CHUNKED, LENGTH, NO_BODY, UNTIL_CLOSE, Framing
from lb.http1.head import HeadLimits, HeadParser
from lb.http1.responses import Response, framing_for_client, prepare_response

OUR_DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
DATE = b"Date: Mon, 07 Nov 1994 08:49:37 GMT"


def raw_head(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([start, *lines, b"", b""])


def read(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK") -> Response:
    return prepare_response(HeadParser(HeadLimits()).response(raw_head(*lines, start=start)))


def sent(response: Response, *, framing: Framing | None = None, close: bool = False) -> list[bytes]:
    head = response.head_for(framing=framing or response.framing, close=close, date=OUR_DATE)
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n")


def test_a_plain_response_as_it_is_sent() -> None:
    response = read(DATE, b"Server: a", b"Content-Length: 5", b"b:c")
    assert sent(response) == [b"HTTP/1.1 200 OK", DATE, b"Server: a", b"b: c", b"Content-Length: 5"]
    assert response.plain == b"\r\n".join([*sent(response), b"", b""])
    assert (response.status, response.minor, response.reusable) == (200, 1, True)


def test_the_reason_and_the_status_are_passed_on() -> None:
    assert sent(read(DATE, start=b"HTTP/1.1 404 Not  Found"))[0] == b"HTTP/1.1 404 Not  Found"
    assert sent(read(DATE, start=b"HTTP/1.1 299"))[0] == b"HTTP/1.1 299 "


def test_an_http_1_0_response_is_sent_as_1_1() -> None:
    response = read(DATE, b"Content-Length: 5", start=b"HTTP/1.0 200 OK")
    assert sent(response)[0] == b"HTTP/1.1 200 OK"
    assert response.minor == 0


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: keep-alive",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: keep-alive",
        b"TE: trailers",
        b"Upgrade: h2",
    ],
)
def test_hop_by_hop_fields_are_dropped(line: bytes) -> None:
    assert sent(read(DATE, line, b"Content-Length: 5")) == sent(read(DATE, b"Content-Length: 5"))


def test_what_connection_names_is_dropped() -> None:
    response = read(DATE, b"A: 1", b"B: 2", b"Connection: A, b", b"a: 3", b"Content-Length: 5")
    assert sent(response) == [b"HTTP/1.1 200 OK", DATE, b"Content-Length: 5"]


def test_connection_cannot_take_away_the_framing() -> None:
    assert sent(read(DATE, b"Connection: content-length", b"Content-Length: 5"))[-1] == b"Content-Length: 5"
    chunked = read(DATE, b"Connection: transfer-encoding", b"Transfer-Encoding: chunked")
    assert sent(chunked)[-1] == b"Transfer-Encoding: chunked"


def test_the_order_of_repeated_fields_is_kept() -> None:
    lines = sent(read(DATE, b"Set-Cookie: a=1", b"X: y", b"set-cookie: b=2", b"Content-Length: 0"))
    assert lines[2:5] == [b"Set-Cookie: a=1", b"X: y", b"set-cookie: b=2"]


class TestDate:
    def test_one_that_is_there_stays(self) -> None:
        response = read(DATE, b"Content-Length: 5")
        assert response.has_date
        assert sent(response).count(DATE) == 1

    def test_a_missing_one_is_added(self) -> None:
        response = read(b"Content-Length: 5")
        assert not response.has_date
        assert response.plain is None
        assert sent(response)[-1] == b"Date: " + OUR_DATE

    def test_one_that_is_only_for_us_is_replaced(self) -> None:
        response = read(DATE, b"Connection: date", b"Content-Length: 5")
        assert [line for line in sent(response) if line.startswith(b"Date")] == [b"Date: " + OUR_DATE]
        assert response.plain is None


class TestFraming:
    def test_chunks(self) -> None:
        response = read(DATE, b"transfer-encoding: Chunked")
        assert response.framing == Framing(CHUNKED)
        assert sent(response) == [b"HTTP/1.1 200 OK", DATE, b"Transfer-Encoding: chunked"]
        assert response.plain is not None

    def test_chunks_win_over_a_length_which_is_dropped(self) -> None:
        response = read(DATE, b"Content-Length: 5", b"Transfer-Encoding: chunked")
        assert sent(response) == [b"HTTP/1.1 200 OK", DATE, b"Transfer-Encoding: chunked"]
        assert sent(response, framing=Framing(NO_BODY)) == [b"HTTP/1.1 200 OK", DATE]
        assert not response.reusable

    def test_until_close_can_be_sent_in_chunks_or_until_close(self) -> None:
        response = read(DATE)
        assert response.framing == Framing(UNTIL_CLOSE)
        assert response.plain is None
        assert sent(response, framing=Framing(CHUNKED)) == [b"HTTP/1.1 200 OK", DATE, b"Transfer-Encoding: chunked"]
        assert sent(response, close=True) == [b"HTTP/1.1 200 OK", DATE, b"Connection: close"]

    def test_a_response_to_head_says_how_long_the_body_would_have_been(self) -> None:
        assert sent(read(DATE, b"Content-Length: 5"), framing=Framing(NO_BODY))[-1] == b"Content-Length: 5"
        assert sent(read(DATE, b"Transfer-Encoding: chunked"), framing=Framing(NO_BODY)) == [b"HTTP/1.1 200 OK", DATE]
        assert sent(read(DATE), framing=Framing(NO_BODY)) == [b"HTTP/1.1 200 OK", DATE]

    @pytest.mark.parametrize("status", [100, 103, 204])
    def test_no_length_where_there_can_be_no_body(self, status: int) -> None:
        response = read(DATE, b"Content-Length: 5", start=b"HTTP/1.1 %d x" % status)
        assert response.framing == Framing(NO_BODY)
        assert sent(response) == [b"HTTP/1.1 %d x" % status, DATE]

    def test_304_says_how_long_the_body_would_have_been(self) -> None:
        response = read(DATE, b"Content-Length: 5", start=b"HTTP/1.1 304 Not Modified")
        assert response.framing == Framing(NO_BODY)
        assert sent(response)[-1] == b"Content-Length: 5"
        assert response.plain is not None

    def test_close_is_said_once(self) -> None:
        response = read(DATE, b"Connection: close", b"Content-Length: 5")
        assert sent(response, close=True) == [
            b"HTTP/1.1 200 OK",
            DATE,
            b"Content-Length: 5",
            b"Connection: close",
        ]
        assert sent(response) == [b"HTTP/1.1 200 OK", DATE, b"Content-Length: 5"]

    def test_the_length_is_written_anew(self) -> None:
        assert sent(read(DATE, b"content-length:005"))[-1] == b"Content-Length: 5"


@pytest.mark.parametrize("minor", [0, 1])
def test_http_1_0_has_no_chunks_and_http_1_1_need_not_close(minor: int) -> None:
    for kind in (CHUNKED, UNTIL_CLOSE):
        assert framing_for_client(Framing(kind), minor) == Framing(CHUNKED if minor else UNTIL_CLOSE)
    for framing in (Framing(NO_BODY), Framing(LENGTH, 5)):
        assert framing_for_client(framing, minor) == framing


@pytest.mark.parametrize(
    ("lines", "start", "reusable"),
    [
        ([b"Content-Length: 5"], b"HTTP/1.1 200 OK", True),
        ([b"Transfer-Encoding: chunked"], b"HTTP/1.1 200 OK", True),
        ([b"Content-Length: 5", b"Connection: keep-alive"], b"HTTP/1.1 200 OK", True),
        ([b"Content-Length: 5", b"Connection: a, Close"], b"HTTP/1.1 200 OK", False),
        ([b"Content-Length: 5"], b"HTTP/1.0 200 OK", False),
        ([b"Content-Length: 5", b"Connection: keep-alive"], b"HTTP/1.0 200 OK", False),
        ([b"Content-Length: 5", b"Connection: a"], b"HTTP/1.0 200 OK", False),
        ([], b"HTTP/1.1 200 OK", False),
        ([], b"HTTP/1.1 204 No Content", True),
        ([], b"HTTP/1.1 304 Not Modified", True),
        ([b"Content-Length: 5", b"Transfer-Encoding: chunked"], b"HTTP/1.1 304 Not Modified", False),
    ],
)
def test_whether_another_request_may_follow(lines: list[bytes], start: bytes, reusable: bool) -> None:
    assert read(*lines, start=start).reusable is reusable


@pytest.mark.parametrize(
    ("lines", "after_get", "after_head"),
    [
        ((), False, True),
        ((b"Content-Length: 5",), True, True),
        ((b"Connection: close",), False, False),
        ((b"Content-Length: 5", b"Connection: close"), False, False),
        ((b"Content-Length: 5", b"Transfer-Encoding: chunked"), False, False),
    ],
)
def test_whether_another_request_may_follow_a_head(lines: tuple[bytes, ...], after_get: bool, after_head: bool) -> None:
    raw = b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"", b""])
    response = prepare_response(HeadParser(HeadLimits()).response(raw))
    assert (response.reusable, response.reusable_after_head) == (after_get, after_head)
