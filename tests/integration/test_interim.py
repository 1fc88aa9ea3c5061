"""What comes out of turn: 1xx responses, 100-continue, and responses that overtake their requests."""

from __future__ import annotations

import json
import threading

import pytest

from tests.fakes import DEADLINE, Message, TruncatedError, chunked, eventually, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection, close, respond, respond_and_close, response

EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x\r\nX: 1\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
BODY = b"0123456789" * 20


def test_interim_responses_are_passed_on_at_once(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    final = threading.Event()

    def answer(connection: Connection, message: Message) -> None:
        connection.send(EARLY_HINTS, EARLY_HINTS)
        assert final.wait(DEADLINE)
        connection.send(response(b"final"))

    a = endpoint(answer)
    client = balancer(a).client()
    client.send(request())
    for _ in range(2):
        head = client.stream.take_through(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n")
        assert b"X: 1" not in head, "what Connection names is removed here too"
    final.set()
    assert client.read_response().body == b"final"
    assert client.get().status == 200
    assert len(a.connections) == 1


def test_interim_and_final_in_one_piece(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint(default=respond(EARLY_HINTS + EARLY_HINTS + response(b"final")))
    client = balancer(a).client()
    for _ in range(2):
        message = client.get()
        assert [m.status for m in message.interims] == [103, 103]
        assert message.body == b"final"
    assert len(a.connections) == 1


def test_an_http_1_0_client_gets_no_interim_responses(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint(respond(EARLY_HINTS + response(b"final")))
    client = balancer(a).client()
    client.send(b"GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n")
    message = client.read_response()
    assert (message.interims, message.body) == ([], b"final")


def test_interim_responses_before_a_reply_of_ours_stay_before_it(
    balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a = endpoint(default=respond_and_close(EARLY_HINTS))
    message = balancer(a).client().exchange(request("POST", body=BODY))
    assert [m.status for m in message.interims] == [103]
    assert message.status == 502
    assert len(a.requests) == 1


def test_an_endpoint_that_dies_behind_an_interim_response(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Something of this endpoint's answer was sent downstream: no other may answer any more, whatever the method."""
    a, b = endpoint(default=respond_and_close(EARLY_HINTS)), endpoint()
    client = balancer(a, b).client()
    messages = sorted([client.get() for _ in range(2)], key=lambda message: message.status)
    assert [(m.status, len(m.interims)) for m in messages] == [(200, 0), (502, 1)]
    assert [len(a.requests), len(b.requests)] == [1, 1]


@pytest.mark.parametrize(
    "raw", [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", CONTINUE * 40], ids=["101", "too many"]
)
def test_interim_responses_that_nobody_asked_for(raw: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint(respond(raw))
    message = balancer(a).client().get()
    assert message.status == 502
    assert json.loads(message.body)["reason"].startswith("bad_response:")
    assert a.wait_for_end(0) in ("fin", "reset")
    assert len(a.requests) == 1


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_100_continue_end_to_end(framing: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    may_continue = threading.Event()

    def script(connection: Connection) -> None:
        for _ in range(2):
            head = connection.read_head()
            assert head is not None
            assert head.get(b"expect") == b"100-continue"
            assert may_continue.wait(DEADLINE)
            connection.send(CONTINUE)
            connection.read_body(head)
            connection.send(response(b"done"))
        connection.wait_for_end()

    a = endpoint(script=script)
    client = balancer(a).client()
    for _ in range(2):
        if framing == "length":
            client.send(request("POST", "/", "Expect: 100-continue", f"Content-Length: {len(BODY)}"))
            body = BODY
        else:
            client.send(request("POST", "/", "Expect: 100-Continue".lower(), "Transfer-Encoding: chunked"))
            body = chunked(BODY)
        a.wait_for_heads(1)
        may_continue.set()
        assert client.stream.take_through(b"\r\n\r\n").startswith(b"HTTP/1.1 100 Continue\r\n")
        client.send(body)
        assert client.read_response().body == b"done"
    assert [m.body for m in a.requests] == [BODY, BODY]
    assert len(a.connections) == 1


def test_a_final_response_instead_of_100(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    def script(connection: Connection) -> None:
        assert connection.read_head() is not None
        connection.send(response(b"no", status="417 Expectation Failed"))
        connection.wait_for_end()

    a = endpoint(script=script)
    lb = balancer(a)
    client = lb.client()
    client.send(request("POST", "/", "Expect: 100-continue", "Content-Length: 1000"))
    message = client.read_response()
    assert (message.status, message.body) == (417, b"no")
    assert message.get(b"connection") == b"close", "the body may come or not: nobody knows"
    assert client.how_closed() == "fin"
    assert a.requests == []
    assert a.wait_for_end(0) in ("fin", "reset")
    assert lb.ends() == {"ok": 1}


@pytest.mark.parametrize("size", [1000, 3_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_an_early_response_while_the_body_is_still_coming(
    framing: str, size: int, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """The endpoint answers at the head and reads nothing of the body; the client sends all of it before it reads."""
    refusal = response(b"too much", "Connection: close", status="413 Content Too Large")
    if framing == "chunked":
        refusal = b"HTTP/1.1 413 X\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"too ", b"much")
    elif framing == "close":
        refusal = b"HTTP/1.1 413 X\r\n\r\ntoo much"

    def script(connection: Connection) -> None:
        assert connection.read_head() is not None
        connection.send(refusal)
        connection.fin()
        connection.wait_for_end()

    a = endpoint(script=script)
    lb = balancer(a)
    client = lb.client()
    client.send(request("POST", "/", f"Content-Length: {size}"))
    sent = 0
    while sent < size:
        sent += client.socket.send(b"x" * min(65536, size - sent))
    message = client.read_response()
    assert (message.status, message.body) == (413, b"too much")
    if message.get(b"connection") == b"close":
        assert client.how_closed() == "fin"
    assert len(a.heads) == 1
    assert lb.ends() == {"ok": 1}


def test_an_early_response_goes_on_after_the_request_was_complete(
    balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    def script(connection: Connection) -> None:
        head = connection.read_head()
        assert head is not None
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")
        connection.read_body(head)
        connection.send(b"56789")
        connection.wait_for_end()

    a = endpoint(script=script)
    lb = balancer(a)
    client = lb.client()
    client.send(request("POST", "/", "Content-Length: 10"))
    assert client.stream.take_through(b"01234").startswith(b"HTTP/1.1 200 OK")
    client.send(b"abcdefghij")
    assert client.stream.take_to_end() == b"56789"
    assert a.requests[0].body == b"abcdefghij"
    assert lb.ends() == {"ok": 1}


MALFORMED = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "status 600": b"HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n",
    "status 99": b"HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
    "a NUL": b"HTTP/1.1 200 OK\r\nA: \x00\r\nContent-Length: 0\r\n\r\n",
    "a folded field": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": b"HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    "a coding that is not chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bad chunk at once": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a head without an end": b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70000,
    "too many fields": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300 + b"\r\n",
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_response(name: str, method: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint(respond(MALFORMED[name]))
    lb = balancer(a)
    client = lb.client()
    message = client.exchange(request(method, body=b"x" if method == "POST" else None))
    assert message.status == 502
    assert json.loads(message.body)["reason"].startswith("bad_response")
    assert a.wait_for_end(0) in ("fin", "reset")
    assert client.get().status == 200, "only the endpoint's connection is gone"
    assert len(a.requests) == 2
    assert lb.ends() == {"bad_response": 1, "ok": 1}


def test_a_bad_chunk_in_a_body_that_has_begun_is_a_truncation(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    seen = threading.Event()

    def answer(connection: Connection, message: Message) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        assert seen.wait(DEADLINE)
        connection.send(b"xyz\r\n")
        connection.wait_for_end()

    a = endpoint(answer)
    lb = balancer(a)
    client = lb.client()
    client.send(request())
    client.stream.take_through(b"abc\r\n")
    seen.set()
    with pytest.raises((ConnectionResetError, TruncatedError)):
        client.stream.take(1)
    assert a.wait_for_end(0) in ("fin", "reset")
    assert lb.ends() == {"bad_response": 1}


def test_a_response_before_any_request_is_not_taken(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    def script(connection: Connection) -> None:
        connection.send(response(b"unasked"))
        while connection.read_request() is not None:
            connection.send(response(b"asked"))

    a = endpoint(script=script)
    lb = balancer(a)
    client = lb.client()
    message = client.get()
    # It cannot be told from a fast answer on the first request, but never on a second one.
    assert message.status in (200, 502)
    eventually(lambda: lb.idle(a.value) == 0, "the end of that connection")


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_an_endpoint_that_sends_nothing_and_closes(
    version: str, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a = endpoint(default=close)
    client = balancer(a).client()
    client.send(request("POST").replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
    assert client.read_response().status == 502
    assert len(a.requests) == 1
