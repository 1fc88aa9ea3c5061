"""How many connections there may be: beyond that they wait in the kernel's queue until one closes."""

from __future__ import annotations

import pytest

from lb import metrics
from tests.fakes import eventually, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import never
from tests.integration.harness import Variant
from tests.integration.load import load
from tests.integration.processes import LoadBalancer

pytestmark = pytest.mark.any_parser


def test_accepting_pauses_at_max_connections(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    lb = balancer(a, max_connections=3)
    clients = []
    for _ in range(3):
        clients.append(lb.client())
        assert clients[-1].get().status == 200
    # The kernel completes its handshake, but nobody answers it.
    waiting = lb.client()
    waiting.send(request("GET", "/waiting"))
    eventually(lambda: lb.counter(metrics.ACCEPT_PAUSES) == 1, "the pause")
    for client in clients:
        assert client.get().status == 200, "those that are there are served"
    assert waiting.is_silent()
    assert lb.counter(metrics.CONNECTIONS) == 3
    assert b"/waiting" not in [m.target for m in a.heads]
    clients[0].close()
    assert waiting.read_response().status == 200
    assert lb.counter(metrics.CONNECTIONS) == 4
    assert any("maxConnections (3)" in text for text in lb.warnings)


def test_it_goes_on_so_and_warns_once(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    lb = balancer(a, max_connections=1)
    clients = []
    for count in range(1, 6):
        clients.append(lb.client())
        clients[-1].send(request())
        eventually(lambda: lb.counter(metrics.CONNECTIONS_OPEN) == 1, "one connection")
        assert clients[-1].read_response().status == 200
        lb.client().close()  # one that has left when it is its turn
        clients[-1].close()
        eventually(lambda: lb.counter(metrics.CONNECTIONS) == 2 * count, "the turn of the next")  # noqa: B023
        eventually(lambda: lb.counter(metrics.CONNECTIONS_OPEN) == 0, "the end of both")
    assert len([text for text in lb.warnings if "maxConnections" in text]) <= 1
    assert len(a.requests) == 5


def test_a_connection_whose_request_is_pending_counts(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint(never)
    lb = balancer(a, max_connections=1)
    first = lb.client()
    first.send(request())
    a.wait_for_requests(1)
    second = lb.client()
    second.send(request())
    eventually(lambda: lb.counter(metrics.ACCEPT_PAUSES) == 1, "the pause")
    assert len(a.heads) == 1
    first.reset()
    assert second.read_response().status == 200


def test_a_burst_does_not_get_over_max_connections(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    lb = balancer(endpoint(), max_connections=3)
    # They are in the queue all at once.
    with lb.frozen():
        for _ in range(20):
            lb.client()
    eventually(lambda: lb.counter(metrics.CONNECTIONS) >= 3, "the first clients")
    assert lb.call(lambda: lb.counter(metrics.CONNECTIONS_OPEN)) <= 3


@pytest.mark.one_variant
def test_with_few_descriptors_clients_wait_and_are_served(variant: Variant, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    flags = (f"--backends=127.0.0.1:{a.port}", f"--loop={variant.loop}")
    with LoadBalancer(*flags, descriptors=100) as lb:
        assert int(lb.wait_for(r"which fits ([0-9]+) connections")[1]) < 50
        outcome = load(lb.port, request("GET", "/", "Connection: close"), connections=60, requests=60)
        assert outcome.errors == []
        assert outcome.statuses == {200: 60}
        assert lb.find(r"\[ERROR\]") is None
    assert len(a.requests) == 60


@pytest.mark.parametrize("gone", [1, 3])
def test_clients_that_were_reset_in_the_queue(gone: int, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    lb = balancer(endpoint(), max_connections=1)
    with lb.frozen():
        for _ in range(gone):
            lb.client().reset()
        clients = [lb.client() for _ in range(3)]
        for client in clients:
            client.send(request("GET", "/", "Connection: close"))
    for client in clients:
        assert client.read_response().status == 200
        client.close()
    eventually(lambda: lb.counter(metrics.CONNECTIONS_OPEN) == 0, "the end")


def test_many_clients_that_were_reset_in_the_queue(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    lb = balancer(endpoint(), max_connections=2)
    for n in range(40):
        with lb.frozen():
            for m in range(4):
                client = lb.client()
                if m % 2:
                    client.send(request())
                client.reset()
        if n % 5 == 0:
            assert lb.client().get("/", "Connection: close").status == 200
    assert lb.client().get().status == 200
