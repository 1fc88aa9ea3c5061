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
