"""What RFC 9112, sections 8 and 9, demands of connections and of messages that end too early, on both sides."""

from __future__ import annotations

import threading

import pytest

from tests.fakes import DEADLINE, Message, TruncatedError, chunked, eventually, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection, close, never, respond, response

pytestmark = pytest.mark.any_parser


# Section 9.3: persistence


@pytest.mark.parametrize(
    "option", ["", "Connection: keep-alive\r\n", "Keep-Alive: timeout=5\r\nConnection: keep-alive\r\n"]
)
def test_an_http_1_0_client_is_never_kept(option: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 9.3: a proxy does not keep connections to HTTP/1.0 clients (appendix C.2.2 says why)."""
    a = endpoint()
    client = balancer(a).client()
    raw = f"GET / HTTP/1.0\r\nHost: x\r\n{option}\r\n".encode()
    client.send(raw + raw)
    message = client.read_response()
    assert message.get(b"connection") == b"close"
    assert message.get(b"keep-alive") is None
    assert client.how_closed() == "fin"
    assert len(a.requests) == 1


@pytest.mark.parametrize("option", ["", "Connection: keep-alive"])
def test_an_http_1_0_endpoint_is_never_kept(option: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """An endpoint that says no more than HTTP/1.0 may close at any time, whatever it says of keeping."""
    lines = [option] if option else []
    a = endpoint(default=respond(response(b"ok", *lines).replace(b"1.1", b"1.0")))
    client = balancer(a).client()
    assert [client.get().body for _ in range(2)] == [b"ok", b"ok"]
    assert [c.requests for c in a.connections] == [1, 1]


@pytest.mark.parametrize("value", ["close", "Close", ",close,", "keep-alive, close", "x,\tCLOSE"])
def test_an_endpoint_that_says_close_gets_nothing_more(
    value: str, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """Section 9.6: even where it leaves its connection open, it is we who close it."""
    a = endpoint(default=respond(response(b"ok", f"Connection: {value}")))
    client = balancer(a).client()
    assert [client.get().get(b"connection") for _ in range(2)] == [None, None]
    assert [c.requests for c in a.connections] == [1, 1]
    assert [a.wait_for_end(n) for n in range(2)] == ["fin", "fin"]


def test_connections_are_kept_without_a_word(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 9.3: HTTP/1.1 connections are, as long as neither side says close, with any method and status."""
    a = endpoint(default=lambda connection, message: connection.send(response(b"x", status="404 No")))
    client = balancer(a).client()
    for method in ("GET", "POST", "DELETE", "OPTIONS", "BREW"):
        assert client.exchange(request(method, body=b"abc"), "GET").status == 404
    assert [c.requests for c in a.connections] == [5]


@pytest.mark.parametrize("status", ["400 Bad Request", "413 Content Too Large", "500 X", "200 OK"])
def test_the_rest_of_a_body_is_never_read_as_a_request(
    status: str, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """Section 9.3: the body is read whole, or the connection is closed; here its end comes after the response."""
    answered = threading.Event()

    def script(connection: Connection) -> None:
        if connection.read_head() is not None:
            connection.send(response(b"early", status=status))
            answered.set()
            connection.wait_for_end()

    a = endpoint(script=script)
    client = balancer(a).client()
    client.send(request("POST", "/", "Content-Length: 1000"))
    assert answered.wait(DEADLINE)
    message = client.read_response("POST")
    assert message.body == b"early"
    assert message.get(b"connection") == b"close"
    client.send(request("GET", "/smuggled").ljust(1000, b"x") + request("GET", "/behind"))
    assert client.how_closed() == "fin"
    assert [m.method for m in a.heads] == [b"POST"]


def test_a_refusal_ends_the_pipeline(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 9.6: behind a response with close nothing is processed, and those before it come in order."""
    gate = threading.Event()

    def answer(connection: Connection, message: Message) -> None:
        assert gate.wait(DEADLINE)
        connection.send(response(message.target))

    a = endpoint(default=answer)
    client = balancer(a).client()
    client.send(request("GET", "/1") + request("GET", "/2") + b"GET / HTTP/1.1\r\n\r\n" + request("GET", "/behind"))
    a.wait_for_requests(1)
    gate.set()
    messages = [client.read_response() for _ in range(3)]
    assert [m.status for m in messages] == [200, 200, 400]
    assert [m.body for m in messages[:2]] == [b"/1", b"/2"]
    assert [m.get(b"connection") for m in messages] == [None, None, b"close"]
    assert client.how_closed() == "fin"
    assert [m.target for m in a.requests] == [b"/1", b"/2"]


# Section 9.3.1, and RFC 9110, section 9.2.2: what is tried again


@pytest.mark.parametrize(
    ("method", "tries"),
    [("GET", 3), ("HEAD", 3), ("OPTIONS", 3), ("PUT", 3), ("DELETE", 3), ("POST", 1), ("PATCH", 1), ("BREW", 1)],
)
def test_only_idempotent_methods_are_tried_again(
    method: str, tries: int, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    endpoints = [endpoint(default=close) for _ in range(4)]
    lb = balancer(*endpoints, retries=2)
    assert lb.client().exchange(request(method)).status == 502
    assert sum(len(e.requests) for e in endpoints) == tries
    assert max(len(e.requests) for e in endpoints) == 1


# Section 8: incomplete messages


@pytest.mark.parametrize(
    "raw",
    [
        request("POST", "/", "Content-Length: 10") + b"abc",
        request("POST", "/", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n",
        request("POST", "/", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n",
        request("POST", "/", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\nX: y\r\n",
        request("POST", "/", "Transfer-Encoding: chunked") + b"5\r\nabc",
    ],
)
def test_an_incomplete_request_is_never_completed(raw: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """An endpoint that counts does not see a whole one, and the client no answer to one."""
    a = endpoint()
    client = balancer(a).client()
    client.send(raw)
    a.wait_for_heads(1)
    client.fin()
    assert a.wait_for_end(0) in ("fin", "reset")
    assert a.requests == []
    assert client.stream.take_to_end() == b""


@pytest.mark.parametrize(
    "after", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", b"HTTP/1.1 103 X\r\n\r\n"]
)
def test_a_head_that_is_cut_off_is_a_502(after: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Nothing of an unfinished head goes on (an interim response that was whole has gone)."""

    def answer(connection: Connection, message: Message) -> None:
        connection.send(after)
        connection.close()

    message = balancer(endpoint(default=answer)).client().exchange(request("POST", body=b"x"))
    assert message.status == 502


def test_a_close_delimited_response_is_complete_when_its_connection_ends_in_order(
    balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """And only then: what a reset ends is a truncation, with chunks too."""

    def answer(how: str) -> object:
        def action(connection: Connection, message: Message) -> None:
            connection.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
            assert seen.wait(DEADLINE)
            (connection.close if how == "fin" else connection.reset)()

        return action

    for how in ("fin", "reset"):
        seen = threading.Event()
        client = balancer(endpoint(answer(how))).client()
        client.send(request())
        client.stream.take_through(b"3\r\nabc\r\n")
        seen.set()
        if how == "fin":
            assert client.stream.take(5) == b"0\r\n\r\n"
            assert client.is_silent(), "the connection is kept"
        else:
            with pytest.raises((ConnectionResetError, TruncatedError)):
                client.stream.take(1)


# Section 9.2 and 9.5: what was not asked for, and who closes


@pytest.mark.parametrize("extra", [b"\r\n", b"x", response(b"unasked"), b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
def test_what_comes_on_an_idle_connection_is_no_response(
    extra: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a = endpoint()
    lb = balancer(a)
    client = lb.client()
    assert client.get().body == b"ok"
    eventually(lambda: lb.idle(a.value) == 1, "idling")
    a.connections[0].send(extra)
    eventually(lambda: lb.idle(a.value) == 0, "its end")
    assert client.get().body == b"ok"
    assert [c.requests for c in a.connections] == [1, 1]


def test_an_idle_connection_that_an_endpoint_closes_is_closed(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 9.5: a close is noticed when it comes, not at the next request."""
    a = endpoint()
    lb = balancer(a)
    client = lb.client()
    client.get()
    eventually(lambda: lb.idle(a.value) == 1, "idling")
    a.connections[0].close()
    eventually(lambda: lb.idle(a.value) == 0, "its end")
    assert client.exchange(request("POST", body=b"x")).status == 200


def test_a_client_that_goes_closes_the_endpoints_connection(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 9.5: whoever waits for nobody is told so."""
    a = endpoint(never)
    client = balancer(a).client()
    client.send(request())
    a.wait_for_requests(1)
    client.close()
    assert a.wait_for_end(0) in ("fin", "reset")


def test_chunked_requests_end_where_they_say(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 9.3: each message on a kept connection has a length of its own, pipelined or not."""
    a = endpoint()
    client = balancer(a).client()
    raw = request("POST", "/", "Transfer-Encoding: chunked") + chunked(b"abc", trailers=b"X: 1\r\n")
    client.send(raw * 3 + request("GET", "/last"))
    assert [client.read_response().status for _ in range(4)] == [200] * 4
    assert [(m.body, m.trailers) for m in a.requests] == [(b"abc", [(b"x", b"1")])] * 3 + [(b"", [])]
