"""A client that goes away before its response began closes its upstream at once; how an endpoint sees it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from lb import metrics
from tests.fakes import DEADLINE, Client, Message, chunked, eventually, request, wait_for_standstill
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection, never, respond, respond_when, response

pytestmark = pytest.mark.any_parser

Leave = Callable[[Client], None]
LEAVES: dict[str, Leave] = {"rst": Client.reset, "fin": Client.fin, "close": Client.close}

UNFINISHED = {
    "length": request("POST", "/", "Content-Length: 100") + b"x" * 10,
    "length, nothing of it": request("POST", "/", "Content-Length: 100"),
    "chunked": request("POST", "/", "Transfer-Encoding: chunked") + chunked(b"abc")[:-5],
    "chunked, the last CRLF": request("POST", "/", "Transfer-Encoding: chunked") + chunked(b"abc")[:-2],
}


@pytest.mark.parametrize("how", LEAVES)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_while_the_response_is_pending(method: str, how: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint(never)
    lb = balancer(a)
    client = lb.client()
    client.send(request(method, body=b"abc" if method == "POST" else None))
    a.wait_for_requests(1)
    LEAVES[how](client)
    assert a.wait_for_end(0) in ("fin", "reset")
    assert lb.ends() == {"client_gone": 1}
    eventually(lambda: lb.counter(metrics.CONNECTIONS_OPEN) == 0, "the end of the client's connection")
    assert len(a.requests) == 1, "and nobody tries it again"


@pytest.mark.parametrize("abort", [True, False])
@pytest.mark.parametrize("how", LEAVES)
@pytest.mark.parametrize("name", UNFINISHED)
def test_inside_an_unfinished_request(
    name: str, how: str, abort: bool, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a = endpoint()
    lb = balancer(a, abort_on_client_fin=abort)
    client = lb.client()
    client.send(UNFINISHED[name])
    a.wait_for_heads(1)
    LEAVES[how](client)
    assert a.wait_for_end(0) in ("fin", "reset")
    assert a.requests == [], "it was never complete"
    assert lb.ends() == {"client_gone": 1}


@pytest.mark.parametrize("how", LEAVES)
def test_inside_an_unfinished_head(how: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    lb = balancer(a)
    client = lb.client()
    client.send(request()[:-2])
    eventually(lambda: lb.counter(metrics.CONNECTIONS) == 1, "the connection")
    LEAVES[how](client)
    eventually(lambda: lb.counter(metrics.CONNECTIONS_OPEN) == 0, "its end")
    assert a.connections == []
    assert lb.ends() == {}


def test_a_fin_behind_complete_requests_aborts_them_by_default(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint(never)
    lb = balancer(a)
    client = lb.client()
    client.send(request() * 3)
    client.fin()
    assert client.stream.take_to_end() == b""
    eventually(lambda: lb.counter(metrics.CONNECTIONS_OPEN) == 0, "the end")
    eventually(lambda: a.open_connections == 0, "the end of the connection to the endpoint")
    assert lb.ends() == {"client_gone": 1}
    assert len(a.heads) <= 1


def test_as_a_half_close_they_are_answered_in_order(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    gate = threading.Event()

    def answer(connection: Connection, message: Message) -> None:
        assert gate.wait(DEADLINE)
        connection.send(response(message.target))

    a = endpoint(default=answer)
    lb = balancer(a, abort_on_client_fin=False)
    client = lb.client()
    client.send(b"".join(request("GET", f"/{n}") for n in range(3)))
    client.fin()
    a.wait_for_requests(1)
    gate.set()
    messages = [client.read_response() for _ in range(3)]
    assert [m.body for m in messages] == [b"/0", b"/1", b"/2"]
    assert [m.get(b"connection") for m in messages] == [None, None, b"close"]
    assert client.how_closed() == "fin"
    assert lb.ends() == {"ok": 3}
    assert len(a.requests) == 3


def test_as_a_half_close_with_a_body(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    gate = threading.Event()
    a = endpoint(respond_when(gate, response(b"done")))
    lb = balancer(a, abort_on_client_fin=False)
    client = lb.client()
    client.send(request("POST", body=b"abc"))
    client.fin()
    a.wait_for_requests(1)
    gate.set()
    assert client.read_response().body == b"done"
    assert client.how_closed() == "fin"
    assert a.requests[0].body == b"abc"


def test_a_reset_while_the_response_is_on_its_way(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    gate = threading.Event()

    def answer(connection: Connection, message: Message) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        assert gate.wait(DEADLINE)
        for _ in range(2000):
            connection.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        raise AssertionError("8 MiB for a client that is gone")

    a = endpoint(answer)
    lb = balancer(a)
    client = lb.client()
    client.send(request())
    client.stream.take_through(b"abc\r\n")
    client.reset()
    gate.set()
    assert a.wait_for_end(0) in ("fin", "reset")
    assert lb.ends() == {"client_gone": 1}


def test_a_client_that_leaves_during_the_connect(
    balancer: MakeBalancer, endpoint: MakeEndpoint, black_hole: Callable[[], object]
) -> None:
    hole = black_hole()
    lb = balancer(hole, connect_timeout=DEADLINE)
    client = lb.client()
    client.send(request("POST", body=b"abc"))
    eventually(lambda: lb.endpoint_counter(hole.value, metrics.PICKS) == 1, "the pick")  # type: ignore[attr-defined]
    client.fin()
    eventually(lambda: lb.counter(metrics.CONNECTIONS_OPEN) == 0, "the end")
    assert lb.ends() == {"client_gone": 1}
    assert lb.state(hole.value) == ("available", 0.0)  # type: ignore[attr-defined]


def test_pipelined_and_gone(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Bytes of later requests are read while the first is pending, so that the reset behind them is seen."""
    a = endpoint(never)
    lb = balancer(a)
    client = lb.client()
    client.send(request())
    a.wait_for_requests(1)
    client.send(request() * 50)
    client.reset()
    assert a.wait_for_end(0) in ("fin", "reset")
    assert lb.ends() == {"client_gone": 1}
    assert len(a.heads) == 1


def test_half_closed_with_part_of_another_request(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    lb = balancer(a, abort_on_client_fin=False)
    client = lb.client()
    client.send(request("GET", "/1") + request("GET", "/2")[:-2])
    client.fin()
    assert client.read_response().status == 200
    assert client.stream.take_to_end() == b"", "what can't be completed needs no answer, and no time-out"
    assert [m.target for m in a.requests] == [b"/1"]


def test_half_closed_inside_the_body_of_another_request(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    lb = balancer(a, abort_on_client_fin=False)
    client = lb.client()
    client.send(request("GET", "/1") + request("POST", "/2", "Content-Length: 10") + b"abc")
    client.fin()
    assert client.read_response().status == 200
    assert client.stream.take_to_end() == b""
    eventually(lambda: a.open_connections <= 1, "the end of the connection with the unfinished request")
    assert [m.target for m in a.requests] == [b"/1"]
    assert lb.counter(metrics.CONNECTIONS_OPEN) == 0


def test_half_closed_with_a_pipeline_behind_a_slow_reader(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """It reads slowly, so the next request is held; then its FIN comes: the rest is owed to it all the same."""
    size = 200_000
    count = 60
    a = endpoint(default=respond(response(b"x" * size)))
    lb = balancer(a, abort_on_client_fin=False)
    client = lb.client(receive_buffer=4096)
    client.send(request() * count)
    wait_for_standstill(lambda: len(a.requests))
    assert len(a.requests) < count
    client.fin()
    bodies = [client.read_response().body for _ in range(count)]
    assert all(len(body) == size for body in bodies)
    assert client.how_closed() == "fin"
    assert len(a.requests) == count


@pytest.mark.parametrize("abort", [True, False])
def test_a_fin_after_the_response_began(abort: bool, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """It has sent all that it wants to send, and it reads: that is no reason to cut what is on its way."""
    gate = threading.Event()

    def answer(connection: Connection, message: Message) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")
        assert gate.wait(DEADLINE)
        connection.send(b"56789")

    a = endpoint(answer)
    lb = balancer(a, abort_on_client_fin=abort)
    client = lb.client()
    client.send(request())
    client.stream.take_through(b"01234")
    client.fin()
    gate.set()
    assert client.stream.take_to_end() == b"56789"
    assert lb.ends() == {"ok": 1}
    eventually(lambda: lb.counter(metrics.CONNECTIONS_OPEN) == 0, "the end")
