"""How many connections there may be: beyond that they wait in the kernel's queue until one closes."""

from __future__ import annotations

import os
import resource
import sys
import threading

import pytest

from lb import metrics
from tests.fakes import eventually, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import never, respond_when, response
from tests.integration.harness import Variant
from tests.integration.load import load
from tests.integration.processes import LoadBalancer
from tests.integration.tunnels import ManualClock

pytestmark = pytest.mark.any_parser


def test_accepting_pauses_at_max_connections(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    goes_on = threading.Event()
    a = endpoint(default=respond_when(goes_on, response()))
    lb = balancer(a, max_connections=3)
    clients = [lb.client() for _ in range(3)]
    for client in clients:
        client.send(request())
    a.wait_for_requests(3)
    # The kernel completes its handshake, but nobody answers it: all are in use.
    waiting = lb.client()
    waiting.send(request("GET", "/waiting"))
    eventually(lambda: lb.counter(metrics.ACCEPT_PAUSES) == 1, "the pause")
    assert waiting.is_silent()
    assert lb.counter(metrics.CONNECTIONS) == 3
    assert lb.counter(metrics.EVICTIONS) == 0
    assert b"/waiting" not in [m.target for m in a.heads]
    # One that idles makes room, although nobody closed it.
    goes_on.set()
    assert waiting.read_response().status == 200
    assert lb.counter(metrics.EVICTIONS) == 1
    assert sum(client.read_response().status == 200 for client in clients) == 3, "each was answered before"
    assert any("maxConnections (3)" in text for text in lb.warnings)


def test_idle_ones_make_room_the_oldest_first(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    clock = ManualClock()
    lb = balancer(endpoint(), max_connections=3, clock=clock)
    clients = [lb.client() for _ in range(3)]
    for client in (clients[1], clients[2], clients[0]):
        clock.now += 1
        assert client.get().status == 200
    assert lb.client().get().status == 200
    assert clients[1].how_closed() == "fin"
    clock.now += 1
    # Used again in the meantime: it is not the oldest any more.
    assert clients[2].get().status == 200
    assert lb.client().get().status == 200
    assert clients[0].how_closed() == "fin"
    assert clients[2].get().status == 200
    # (Accepting may have paused for a moment: one whose kernel has not acknowledged its response yet is in use.)
    assert lb.counter(metrics.EVICTIONS) == 2


def test_then_those_whose_head_is_unfinished_longest(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    clock = ManualClock()
    lb = balancer(endpoint(), max_connections=3, clock=clock)
    slow = []
    for sent in (b"GET / HTTP/1.1\r\n", b"", b"G"):
        slow.append(lb.client())
        slow[-1].send(sent)
        count = len(slow)
        eventually(lambda: lb.counter(metrics.CONNECTIONS) == count, "its turn")  # noqa: B023
        clock.now += 1
    first = lb.client()
    assert first.get().status == 200
    assert slow[0].how_closed() in ("fin", "reset")
    clock.now += 1
    # The first one idles now: it goes before the others, that are slow for longer.
    second = lb.client()
    assert second.get().status == 200
    assert first.how_closed() == "fin"
    clock.now += 1
    second.send(b"GET /slow HTTP/1.1\r\n")
    eventually(lambda: any(c._inbox.data for c in lb.server.proxy.connections if not c._exchange), "its beginning")
    clock.now += 1
    assert lb.client().get().status == 200
    assert slow[1].how_closed() == "fin"
    assert slow[2].is_silent()
    assert second.is_silent()


def test_an_exchange_is_never_cut_for_another(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    goes_on = threading.Event()
    a = endpoint(respond_when(goes_on, response(b"late")))
    lb = balancer(a, max_connections=2)
    busy = lb.client()
    busy.send(request())
    a.wait_for_requests(1)
    for _ in range(5):
        assert lb.client().get().status == 200
    goes_on.set()
    assert busy.read_response().body == b"late"
    assert lb.counter(metrics.EVICTIONS) == 4


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


@pytest.mark.one_variant
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux changes the limits of another process")
def test_out_of_descriptors_it_lives_on(variant: Variant, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    with LoadBalancer(f"--backends=127.0.0.1:{a.port}", f"--loop={variant.loop}") as lb:
        first = lb.client()
        assert first.get().status == 200
        limits = resource.prlimit(lb.pid, resource.RLIMIT_NOFILE)
        open_now = len(os.listdir(f"/proc/{lb.pid}/fd"))
        resource.prlimit(lb.pid, resource.RLIMIT_NOFILE, (open_now + 5, limits[1]))
        clients = [lb.client() for _ in range(20)]
        for client in clients:
            client.send(request())
        assert "raise the limit of open files" in lb.wait_for(r"\[ERROR\] can't accept.*").string
        # Those that are in are served, by the connections that there are, or told that it is not possible.
        assert first.get().status in (200, 503)
        resource.prlimit(lb.pid, resource.RLIMIT_NOFILE, limits)
        statuses = {client.read_response().status for client in clients}
        assert 200 in statuses
        assert statuses <= {200, 503}
        clients += [first, lb.client()]
        assert [client.get().status for client in clients] == [200] * 22
        for client in clients:
            client.close()


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
