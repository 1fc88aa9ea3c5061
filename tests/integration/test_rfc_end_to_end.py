"""RFC 9110: what an intermediary answers itself, counts down or says anew: Expect, Max-Forwards, TE, trailers."""

from __future__ import annotations

import json
import threading

import pytest

from tests.fakes import DEADLINE, chunked, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection, respond, response

ALLOW = b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# Section 10.1.1


@pytest.mark.parametrize(
    "lines",
    [
        ["Expect: something"],
        ["Expect: 100-continue, something"],
        ["Expect: 100-continue;q=1"],
        ["Expect: 100-continu"],
        ["Expect: 100-continue", "Expect: something"],
    ],
    ids=repr,
)
def test_other_expectations_are_a_417(lines: list[str], balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    client = balancer(a).client()
    client.send(request("POST", "/", *lines, "Content-Length: 3"))
    message = client.read_response("POST")
    assert message.status == 417
    assert message.get(b"content-type") == b"application/problem+json"
    assert json.loads(message.body)["reason"].startswith("bad_request:")
    assert message.get(b"connection") == b"close", "the body may come or not"
    assert client.how_closed() == "fin"
    assert a.connections == []


@pytest.mark.parametrize(
    "value", ["100-continue", "100-Continue", "100-CONTINUE", ",100-continue,", "  100-continue\t"]
)
def test_100_continue_in_any_spelling(value: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """The head goes on at once, and it is the endpoint that says whether the body may come."""
    a = endpoint(script=_asks_for_the_body)
    client = balancer(a).client()
    client.send(request("POST", "/", f"Expect: {value}", "Content-Length: 3"))
    assert client.stream.take_through(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
    client.send(b"abc")
    assert client.read_response("POST").body == b"done"
    assert a.requests[0].body == b"abc"
    assert a.requests[0].get(b"expect") is not None


def _asks_for_the_body(connection: Connection) -> None:
    head = connection.read_head()
    assert head is not None
    connection.send(CONTINUE)
    connection.read_body(head)
    connection.send(response(b"done"))
    connection.wait_for_end()


@pytest.mark.parametrize("value", ["100-continue", "something", "100-continue, something"])
def test_http_1_0_has_no_expectations(value: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """It is ignored: the endpoint, which hears HTTP/1.1 from us, does not learn of it, and no 100 comes."""
    a = endpoint()
    client = balancer(a).client()
    client.send(f"POST / HTTP/1.0\r\nHost: x\r\nExpect: {value}\r\nContent-Length: 3\r\n\r\nabc".encode())
    message = client.read_response("POST")
    assert (message.status, message.interims) == (200, [])
    assert a.requests[0].get(b"expect") is None
    assert a.requests[0].body == b"abc"


def test_a_final_response_follows_a_100(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """A 100 that was sent promises one: an endpoint that breaks its word costs a 502, never a silence."""

    def script(connection: Connection) -> None:
        head = connection.read_head()
        assert head is not None
        connection.send(CONTINUE)
        connection.read_body(head)
        connection.close()

    client = balancer(endpoint(script=script)).client()
    client.send(request("PUT", "/", "Expect: 100-continue", "Content-Length: 3"))
    assert client.stream.take_through(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
    client.send(b"abc")
    assert client.read_response("PUT").status == 502


# Section 7.6.2


@pytest.mark.parametrize("target", ["*", "/", "/a?b", "http://example.test", "http://example.test/a"])
@pytest.mark.parametrize("zero", ["0", "000"])
def test_max_forwards_0_is_answered_here(
    zero: str, target: str, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a = endpoint()
    client = balancer(a).client()
    for _ in range(2):
        message = client.exchange(request("OPTIONS", target, f"Max-Forwards: {zero}"))
        assert (message.status, message.body) == (200, b"")
        assert message.get(b"allow") == ALLOW
        assert message.get(b"content-length") == b"0"
        assert message.get(b"date") is not None
        assert message.get(b"connection") is None
    assert a.connections == []
    assert client.get().status == 200, "the client's connection is kept"


def test_max_forwards_0_with_a_body(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """RFC 9112, section 9.3: the body is read, or the connection closed; it is never the next request."""
    a = endpoint()
    client = balancer(a).client()
    client.send(request("OPTIONS", "*", "Max-Forwards: 0", body=request("GET", "/smuggled")))
    message = client.read_response("OPTIONS")
    assert message.status == 200
    if message.get(b"connection") == b"close":
        assert client.how_closed() == "fin"
    else:
        assert client.get("/next").status == 200
    assert b"/smuggled" not in [m.target for m in a.requests]


@pytest.mark.parametrize(
    ("sent", "got"), [("1", b"0"), ("10", b"9"), ("010", b"9"), ("2147483648", b"2147483647"), (" 3\t", b"2")]
)
def test_max_forwards_is_counted_down(sent: str, got: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    client = balancer(a).client()
    for target in ("*", "/", "http://example.test"):
        assert client.exchange(request("OPTIONS", target, f"Max-Forwards: {sent}", "X: 1")).status == 200
    assert [m.get(b"max-forwards") for m in a.requests] == [got] * 3
    assert [m.get(b"x") for m in a.requests] == [b"1"] * 3


def test_a_max_forwards_without_measure(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Whatever is the most we support, it becomes less, or is refused."""
    a = endpoint()
    message = balancer(a).client().exchange(request("OPTIONS", "*", "Max-Forwards: " + "9" * 40))
    assert message.status in (200, 400)
    for request_ in a.requests:
        value = request_.get(b"max-forwards")
        assert value is not None
        assert int(value) < 10**40 - 1


@pytest.mark.parametrize(
    "lines", [["-1"], ["+1"], ["x"], [""], ["1.0"], ["0x1"], ["1, 2"], ["1 2"], ["1", "2"]], ids=repr
)
def test_a_malformed_max_forwards_is_refused(lines: list[str], balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    client = balancer(a).client()
    message = client.exchange(request("OPTIONS", "*", *[f"Max-Forwards: {line}" for line in lines]))
    assert message.status == 400
    assert client.how_closed() == "fin"
    assert a.connections == []


@pytest.mark.parametrize("value", ["0", "5", "x"])
def test_max_forwards_of_other_methods_is_passed_on(value: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    assert balancer(a).client().get("/", f"Max-Forwards: {value}").status == 200
    assert a.requests[0].get(b"max-forwards") == value.encode()


# Sections 10.1.4, 7.6.1 and 6.5


@pytest.mark.parametrize(
    "lines",
    [
        ["TE: trailers", "Connection: TE"],
        ["TE: Trailers", "Connection: te, X-Named", "X-Named: 1"],
        ["TE: trailers, deflate;q=0.5", "Connection: TE"],
        ["TE: deflate;q=0.5, gzip,, trailers", "Connection: keep-alive, TE"],
        ["TE: gzip", "TE: trailers", "Connection: TE"],
    ],
    ids=repr,
)
def test_te_trailers_is_said_anew(lines: list[str], balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """With a Connection of our own, for TE is for the next one alone; and nothing but `trailers` goes on."""
    a = endpoint()
    assert balancer(a).client().get("/", *lines).status == 200
    (message,) = a.requests
    assert message.get(b"te") == b"trailers"
    connection = message.get(b"connection")
    assert connection is not None
    assert connection.lower() == b"te"
    assert message.get(b"x-named") is None


@pytest.mark.parametrize("value", ["", "deflate", "gzip;q=1, deflate", "trailersx", "x-trailers", "chunked"])
def test_other_codings_are_not_asked_for(value: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """What an endpoint may send is what we can read: chunked, which is never named in TE."""
    a = endpoint()
    assert balancer(a).client().get("/", f"TE: {value}", "Connection: TE").status == 200
    assert a.requests[0].get(b"te") is None
    assert a.requests[0].get(b"connection") is None


def test_trailers_that_connection_names_are_removed(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 7.6.1: "any header or trailer field(s)", both ways, in any case."""
    trailers = b"X-Hop: 1\r\nX-Sum: 2\r\nx-hop: 3\r\n"
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: x-HOP\r\n\r\n"
    a = endpoint(default=respond(answer + chunked(b"abc", trailers=trailers)))
    client = balancer(a).client()
    raw = request("POST", "/", "Transfer-Encoding: chunked", "Connection: X-hop") + chunked(b"abc", trailers=trailers)
    for _ in range(3):
        assert client.exchange(raw).trailers == [(b"x-sum", b"2")]
    assert [m.trailers for m in a.requests] == [[(b"x-sum", b"2")]] * 3


def test_hop_by_hop_fields_are_removed_from_trailers(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Sections 6.5.1 and 7.6.1: they mean one connection wherever they stand."""
    names = ["Connection", "Keep-Alive", "Proxy-Connection", "TE", "Upgrade", "Transfer-Encoding", "Content-Length"]
    trailers = "".join(f"{name}: x\r\n" for name in names).encode() + b"X-Sum: 2\r\n"
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    a = endpoint(respond(answer + chunked(b"abc", trailers=trailers)))
    client = balancer(a).client()
    raw = request("POST", "/", "Transfer-Encoding: chunked") + chunked(b"abc", trailers=trailers)
    assert client.exchange(raw).trailers == [(b"x-sum", b"2")]
    assert a.requests[0].trailers == [(b"x-sum", b"2")]


def test_a_refusal_of_the_endpoint_instead_of_100_is_delivered(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 10.1.1: a final status that the head alone decides, while the client still waits with its body."""
    done = threading.Event()

    def script(connection: Connection) -> None:
        assert connection.read_head() is not None
        connection.send(response(b"no", "Connection: close", status="413 Content Too Large"))
        assert done.wait(DEADLINE)
        connection.is_closed = True

    client = balancer(endpoint(script=script)).client()
    client.send(request("POST", "/", "Expect: 100-continue", "Content-Length: 1000"))
    message = client.read_response("POST")
    done.set()
    assert (message.status, message.interims, message.body) == (413, [], b"no")
    assert message.get(b"connection") == b"close", "section 10.1.1: it says that it closes"
