"""Events that the loop reports in one turn, when writes wait for the end of that turn."""

from __future__ import annotations

import threading

import pytest

from lb import metrics
from tests.fakes import DEADLINE, Message, eventually, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection, never, respond, respond_and_close, response

pytestmark = pytest.mark.any_parser


def test_requests_and_fin_at_once(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """As `printf ... | nc` sends them."""
    a = endpoint()
    lb = balancer(a, abort_on_client_fin=False)
    client = lb.client()
    with lb.frozen():
        client.send(request("GET", "/1") + request("GET", "/2"))
        client.fin()
    assert [client.read_response().status for _ in range(2)] == [200, 200]
    assert client.how_closed() == "fin"
    client = lb.client()
    with lb.frozen():
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        client.fin()
    assert client.read_response().status == 400


def test_a_reset_of_the_client_and_its_response(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    gate, sent = threading.Event(), threading.Event()

    def answer(connection: Connection, message: Message) -> None:
        assert gate.wait(DEADLINE)
        connection.send(response())
        sent.set()

    a = endpoint(answer)
    lb = balancer(a)
    client = lb.client()
    client.send(request())
    a.wait_for_requests(1)
    with lb.frozen():
        gate.set()
        assert sent.wait(DEADLINE)
        client.reset()
    eventually(lambda: lb.counter(metrics.CONNECTIONS_OPEN) == 0, "the end")
    assert sum(lb.ends().values()) == 1


def test_a_connect_and_the_clients_end(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    lb = balancer(a)
    client = lb.client()
    with lb.frozen():
        client.send(request())
        client.reset()
    eventually(lambda: lb.counter(metrics.CONNECTIONS_OPEN) == 0, "the end")
    assert set(lb.ends()) <= {"client_gone"}
    assert a.requests == []


def test_a_response_with_a_close_and_the_next_request(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint(default=respond_and_close(response()))
    lb = balancer(a)
    client = lb.client()
    for _ in range(3):
        with lb.frozen():
            client.send(request() * 2)
        assert [client.read_response().status for _ in range(2)] == [200, 200]
    assert len(a.requests) == 6


def test_interim_then_death_then_reply(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint(respond_and_close(b"HTTP/1.1 103 X\r\n\r\n"), never)
    lb = balancer(a)
    client = lb.client()
    with lb.frozen():
        client.send(request("POST", body=b"abc"))
    message = client.read_response()
    assert ([m.status for m in message.interims], message.status) == ([103], 502)


def test_pipelined_and_refused(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint(default=respond(response()))
    lb = balancer(a)
    client = lb.client()
    with lb.frozen():
        client.send(request() * 3 + b"GET / HTTP/1.1\r\n\r\n")
    assert [client.read_response().status for _ in range(4)] == [200, 200, 200, 400]
    assert client.how_closed() == "fin"


@pytest.mark.parametrize("abort", [True, False])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("framing", ["length", "close"])
def test_the_end_of_a_response_and_the_clients_fin(
    framing: str, version: str, abort: bool, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    gate, sent = threading.Event(), threading.Event()

    def answer(connection: Connection, message: Message) -> None:
        head = b"Content-Length: 10\r\n\r\n" if framing == "length" else b"\r\n"
        connection.send(b"HTTP/1.1 200 OK\r\n" + head + b"01234")
        assert gate.wait(DEADLINE)
        connection.send(b"56789")
        if framing == "close":
            connection.close()
        sent.set()

    a = endpoint(answer)
    lb = balancer(a, abort_on_client_fin=abort)
    client = lb.client()
    client.send(request().replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
    client.stream.take_through(b"01234")
    with lb.frozen():
        gate.set()
        assert sent.wait(DEADLINE)
        client.fin()
    assert b"56789" in client.stream.take_to_end()
    assert lb.ends() == {"ok": 1}


def test_a_whole_response_and_the_clients_half_close(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    gate, sent = threading.Event(), threading.Event()

    def answer(connection: Connection, message: Message) -> None:
        assert gate.wait(DEADLINE)
        connection.send(response())
        sent.set()

    a = endpoint(answer)
    lb = balancer(a, abort_on_client_fin=False)
    client = lb.client()
    client.send(request())
    a.wait_for_requests(1)
    with lb.frozen():
        gate.set()
        assert sent.wait(DEADLINE)
        client.fin()
    assert client.read_response().status == 200
    assert client.how_closed() == "fin"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("first", ["request", "end"])
def test_a_request_and_the_end_of_the_idle_connection_it_would_take(
    first: str, method: str, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """No byte of it was written on the connection that died: whatever the method, it goes on."""
    a = endpoint()
    lb = balancer(a)
    client = lb.client()
    assert client.get().status == 200
    eventually(lambda: lb.idle(a.value) == 1, "idling")
    raw = request(method, "/second", body=b"abc" if method == "POST" else None)
    with lb.frozen():
        if first == "request":
            client.send(raw)
        a.connections[0].close()
        if first == "end":
            client.send(raw)
    assert client.read_response().status == 200
    assert [m.target for m in a.requests] == [b"/", b"/second"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("first", ["request", "response"])
@pytest.mark.parametrize("end", ["open", "closed"])
def test_a_request_and_what_nobody_asked_for_on_the_idle_connection(
    end: str, first: str, method: str, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """Sent before the request was written it answers none, such as the 408 of a server that is tired of waiting."""
    a = endpoint()
    lb = balancer(a)
    client = lb.client()
    assert client.get().status == 200
    eventually(lambda: lb.idle(a.value) == 1, "idling")
    raw = request(method, "/second", body=b"abc" if method == "POST" else None)
    with lb.frozen():
        if first == "request":
            client.send(raw)
        a.connections[0].send(response(b"evil", status="408 Request Timeout"))
        if end == "closed":
            a.connections[0].close()
        if first == "response":
            client.send(raw)
    message = client.read_response(method)
    assert (message.status, message.body) == (200, b"ok")
    assert [m.target for m in a.requests] == [b"/", b"/second"]
    assert len(a.connections) == 2
