"""What RFC 9110 and RFC 9112 demand of a response's way through an intermediary, where no other file shows it."""

from __future__ import annotations

import re
import threading

import pytest

from tests.fakes import DEADLINE, Message, chunked, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection, close, respond, respond_and_close, response

IMF_FIXDATE = re.compile(
    rb"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d "
    rb"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d:\d\d GMT"
)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HTTP_1_0 = b"GET / HTTP/1.0\r\nHost: x\r\n\r\n"


# RFC 9110, sections 5 to 7


def test_fields_for_the_client_are_not_modified(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Sections 5.1, 5.3, 7.7, 10.2.1 and 11.6.1: order, challenges, Allow, and what nobody knows."""
    lines = [
        'WWW-Authenticate: Basic realm="a", Digest realm="b"',
        "Allow: GET, BREW,",
        "No-One-Knows: this",
        "Date: Sunday, 06-Nov-94 08:49:37 GMT",
        "WWW-Authenticate: Newauth x=1",
        "Cache-Control: no-transform",
        "Content-Encoding: gzip",
        "Retry-After: 120",
        "Last-Modified: Sun Nov  6 08:49:37 1994",
        "Server: x/1 (y)",
        "Proxy-Authenticate: Basic",
    ]
    a = endpoint(respond(response(b"\x1f\x8bnot really", *lines, status="401 Unauthorized")))
    message = balancer(a).client().get()
    assert message.body == b"\x1f\x8bnot really"
    assert message.raw_head.startswith(b"HTTP/1.1 401 Unauthorized\r\n" + "\r\n".join(lines).encode() + b"\r\n")


@pytest.mark.parametrize(
    "value", ["X-Named", ", X-Named", "X-Named,,", "a ,\t, x-nAMED , ,", "keep-alive, X-Named", "close, X-Named"]
)
def test_connection_names_what_is_removed(value: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Sections 5.6.1.2 and 7.6.1."""
    a = endpoint(respond(response(b"ok", f"Connection: {value}", "X-Named: 1", "X-Kept: 2")))
    message = balancer(a).client().get()
    assert message.get(b"x-named") is None
    assert message.get(b"connection") is None
    assert message.get(b"x-kept") == b"2"


@pytest.mark.parametrize("status", [200, 301, 404, 500])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_date_is_added_where_there_is_none(
    version: str, status: int, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """Sections 5.6.7 and 6.6.1; also where Connection had named the one that came."""
    for lines in ([], ["Date: x", "Connection: date"]):
        a = endpoint(respond(response(b"ok", *lines, status=f"{status} X").replace(b"1.1", version.encode(), 1)))
        date = balancer(a).client().get().get(b"date")
        assert date is not None
        assert IMF_FIXDATE.fullmatch(date)


@pytest.mark.parametrize(
    "raw", [b"GET / HTTP/1.1\r\n\r\n", request("CONNECT", "x:1"), b"x\r\n\r\n", request("GET", "/nobody")]
)
def test_replies_of_ours_have_a_date(raw: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 6.6.1: whoever has a clock says when."""
    date = balancer(endpoint(default=close), retries=0).client().exchange(raw, "GET").get(b"date")
    assert date is not None
    assert IMF_FIXDATE.fullmatch(date)


def test_trailers_are_never_merged_into_the_head(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 6.5.1: where chunks are undone they are dropped, and otherwise they stay behind the body."""
    a = endpoint(default=respond_and_close(CHUNKED + chunked(b"abc", trailers=b"X-Sum: 1\r\nETag: y\r\n")))
    lb = balancer(a)
    client = lb.client()
    client.send(HTTP_1_0)
    message = client.read_response()
    assert (message.body, message.trailers) == (b"abc", [])
    assert b"x-sum" not in message.names
    message = lb.client().get()
    assert message.trailers == [(b"x-sum", b"1"), (b"etag", b"y")]
    assert b"x-sum" not in message.names


# Section 8.6


@pytest.mark.parametrize("lengths", [["3", "3"], ["3", "3", "3"]])
def test_a_length_that_is_repeated_is_sent_once(
    lengths: list[str], balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """With the same value; with another it is refused."""
    head = "".join(f"Content-Length: {length}\r\n" for length in lengths)
    a = endpoint(respond(b"HTTP/1.1 200 OK\r\n" + head.encode() + b"\r\nabc"))
    message = balancer(a).client().get()
    assert (message.status, message.body, message.get(b"content-length")) == (200, b"abc", b"3")


@pytest.mark.parametrize("length", ["3, 4", "+3", "-3", "0x3", "3 3", "", "3.", "9" * 19, "9" * 40], ids=repr)
def test_a_length_that_is_none_is_a_502(length: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """And RFC 9112, section 6.3, rule 5: the response is discarded, the endpoint's connection closed."""
    a = endpoint(respond(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n?!?".encode()))
    client = balancer(a).client()
    message = client.get()
    assert message.status == 502
    assert b"?!?" not in message.body
    assert a.wait_for_end(0) in ("fin", "reset")
    assert client.get().status == 200


# Section 15


@pytest.mark.parametrize("status", [200, 203, 205, 206, 226, 299, 300, 399, 401, 407, 418, 421, 451, 499, 511, 599])
def test_a_status_is_passed_on_as_it_is(status: int, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Also one that nobody knows: it is the class that counts."""
    a = endpoint(default=respond(response(b"" if status == 205 else b"ok", status=f"{status} What It Means")))
    client = balancer(a).client()
    for _ in range(2):
        message = client.get()
        assert (message.status, message.start[2]) == (status, b"What It Means")
    assert len(a.connections) == 1


@pytest.mark.parametrize("status", [100, 102, 103, 110, 199])
def test_an_interim_response_is_passed_on(status: int, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 15.2, and 8.6: without Content-Length and Transfer-Encoding, for there is no body."""
    interim = f"HTTP/1.1 {status} X\r\nX: y\r\nContent-Length: 5\r\n\r\nHTTP/1.1 {status} X\r\n".encode()
    a = endpoint(default=respond(interim + b"Transfer-Encoding: chunked\r\n\r\n" + response(b"ok")))
    client = balancer(a).client()
    for _ in range(2):
        message = client.get()
        assert (message.status, message.body) == (200, b"ok")
        assert [m.status for m in message.interims] == [status, status]
        assert message.interims[0].get(b"x") == b"y"
    client.send(HTTP_1_0)
    assert client.read_response().interims == []


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Content-Length: 0"])
def test_a_204_has_neither_length_nor_coding(framing: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 8.6, and RFC 9112, section 6.1."""
    a = endpoint(default=respond(b"HTTP/1.1 204 No Content\r\n" + framing + b"\r\n\r\n"))
    client = balancer(a).client()
    for _ in range(2):
        message = client.get()
        assert message.status == 204
        assert {b"content-length", b"transfer-encoding"}.isdisjoint(message.names)


# RFC 9112


@pytest.mark.parametrize("line", [b"HTTP/1.1 200\r\n", b"HTTP/1.1 200 \r\n"], ids=repr)
def test_the_space_before_a_reason_is_sent_without_a_reason(
    line: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """Section 4."""
    a = endpoint(respond(line + b"Content-Length: 2\r\n\r\nok"))
    message = balancer(a).client().get()
    assert message.raw_head.startswith(b"HTTP/1.1 200 \r\n")
    assert message.body == b"ok"


@pytest.mark.parametrize(
    "line",
    [b"X: a\rb", b"X: a\nb", b"X: a\0b", b"X: \r", b"X: a\r\n\tb", b" X: a", b"\tX: a", b"X : a", b"X\t: a", b"X\0: a"],
    ids=repr,
)
def test_lines_that_could_be_read_in_two_ways_are_a_502(
    line: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """Sections 2.2, 5.1 and 5.2: nothing of such a response goes on."""
    a = endpoint(respond(b"HTTP/1.1 200 OK\r\n" + line + b"\r\nContent-Length: 2\r\n\r\nok"))
    client = balancer(a).client()
    message = client.get()
    assert message.status == 502
    assert b"x" not in message.names
    assert a.wait_for_end(0) in ("fin", "reset")
    assert client.get().status == 200


def test_the_coding_wins_over_the_length(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 6.3, rule 3: the length is removed, and the connection is not used again (section 11.2)."""
    for lines in (
        b"Content-Length: 3\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 1",
    ):
        a = endpoint(default=respond(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n\r\n" + chunked(b"abcde")))
        client = balancer(a).client()
        for _ in range(2):
            message = client.get()
            assert message.body == b"abcde"
            assert message.get(b"content-length") is None
        assert [c.requests for c in a.connections] == [1, 1]


def test_no_coding_goes_to_http_1_0(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 6.1; the end of the connection ends the body, in order."""
    client = balancer(endpoint(respond(CHUNKED + chunked(b"abc", b"de")))).client()
    client.send(HTTP_1_0)
    message = client.read_response()
    assert message.body == b"abcde"
    assert message.get(b"transfer-encoding") is None


@pytest.mark.parametrize("line", [b"3", b"0003", b"3;a", b'3;a="b;c"', b"3 ;\ta = b"])
def test_chunk_extensions_are_ignored_and_removed(line: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 7.1.1. (That nothing of them is passed on is checked by the client's strict reader.)"""
    a = endpoint(respond(CHUNKED + line + b"\r\nabc\r\n0;x\r\n\r\n"))
    assert balancer(a).client().get().body == b"abc"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Length: 5", b"abc"),
        (b"Transfer-Encoding: chunked", b"3\r\nabc\r\n"),
        (b"Transfer-Encoding: chunked", b"3\r\nabc\r\n0\r\n"),
        (b"Transfer-Encoding: chunked", b"5\r\nabc"),
    ],
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_incomplete_response_stays_incomplete(
    version: str, head: bytes, body: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """Section 8: the endpoint closes in order, too early; what the client gets ends with a reset."""
    seen = threading.Event()

    def answer(connection: Connection, message: Message) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + body)
        assert seen.wait(DEADLINE)
        connection.close()

    client = balancer(endpoint(answer)).client()
    client.send(request().replace(b"1.1", version.encode()))
    client.stream.take_through(b"abc")
    client.stream.buffer = b""
    seen.set()
    with pytest.raises(ConnectionResetError):
        client.stream.take_to_end()
