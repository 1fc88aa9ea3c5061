"""Room is made at nobody's cost: no request that has arrived is lost by it, and no response that was given."""

from __future__ import annotations

import threading

import pytest

from lb import metrics
from lb.eviction import LOOK_AGAIN_SECONDS
from tests.fakes import DEADLINE, Message, eventually, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection, never, response
from tests.integration.tunnels import ManualClock

pytestmark = pytest.mark.any_parser


@pytest.mark.parametrize("is_new", [False, True])
def test_one_whose_request_has_arrived_is_not_cut(is_new: bool, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """It is not read yet when another client is let in."""
    lb = balancer(endpoint(), max_connections=1)
    client = lb.client()
    if is_new:
        eventually(lambda: lb.counter(metrics.CONNECTIONS) == 1, "its turn")
    else:
        assert client.get().status == 200
    with lb.frozen():
        other = lb.client()
        other.send(request())
        client.send(request())
    assert client.read_response().status == 200
    assert other.read_response().status == 200


@pytest.mark.parametrize("line", ["Connection: close", "Connection: keep-alive"])
def test_a_response_of_the_same_turn_arrives(line: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """It is not written yet when its client's connection, which is used no more, makes room."""
    goes_on, sent = threading.Event(), threading.Event()

    def answer(connection: Connection, message: Message) -> None:
        assert goes_on.wait(DEADLINE)
        connection.send(response())
        sent.set()

    a = endpoint(answer)
    lb = balancer(a, max_connections=1)
    client = lb.client()
    client.send(request("GET", "/", line))
    a.wait_for_requests(1)
    with lb.frozen():
        goes_on.set()
        assert sent.wait(DEADLINE)
        other = lb.client()
        other.send(request())
    assert client.read_response().status == 200
    assert other.read_response().status == 200


def test_one_whose_response_is_still_on_its_way_is_in_use(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Closed in order, and then sent its next request, it would be reset in the middle of the last response."""
    body = b"x" * 300_000
    lb = balancer(endpoint(default=lambda connection, _: connection.send(response(body))), max_connections=1)
    client = lb.client(receive_buffer=4096)
    client.send(request())
    eventually(lambda: lb.counter(metrics.EXCHANGES) and not lb.open_exchanges, "the end of its exchange")
    other = lb.client()
    other.send(request())
    eventually(lambda: lb.counter(metrics.ACCEPT_PAUSES) or lb.counter(metrics.EVICTIONS), "a look")
    client.send(request())
    assert client.read_response().body == body
    assert client.read_response().body == body
    assert other.read_response().body == body


def test_one_that_is_new_has_a_moment_for_its_request(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """In a burst of clients each would have to go for the next, before its request was there."""
    clock = ManualClock()
    a = endpoint(never)
    lb = balancer(a, max_connections=2, clock=clock)
    busy = lb.client()
    busy.send(request())
    a.wait_for_requests(1)
    new = lb.client()
    eventually(lambda: lb.counter(metrics.CONNECTIONS) == 2, "its turn")
    other = lb.client()
    eventually(lambda: lb.counter(metrics.ACCEPT_PAUSES) == 1, "the pause")
    new.send(request())
    assert new.read_response().status == 200
    clock.now += LOOK_AGAIN_SECONDS
    other.send(request())
    assert other.read_response().status == 200
    eventually(lambda: lb.counter(metrics.EVICTIONS) == 1, "the one that idled goes")
    # It says nothing for longer than that.
    silent = lb.client()
    eventually(lambda: lb.counter(metrics.CONNECTIONS) == 4, "its turn")
    clock.now += 1
    assert lb.client().get().status == 200
    assert silent.how_closed() == "fin"
    busy.reset()
