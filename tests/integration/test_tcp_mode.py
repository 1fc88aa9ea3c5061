"""TCP mode: whole connections are balanced, as requests are in HTTP mode. What passes is in test_tunnel.py."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from lb import metrics
from tests.fakes import eventually
from tests.integration.conftest import MakeBalancer, MakeBlackHole, MakeEndpoint
from tests.integration.tunnels import Port

MakePort = Callable[..., Port]


def test_connections_take_turns(balancer: MakeBalancer, port: MakePort) -> None:
    ports = [port(), port(), port()]
    lb = balancer(*[p.value for p in ports], mode="tcp")
    for _ in range(2):
        for _ in ports:
            lb.client()
    for p in ports:
        for _ in range(2):
            p.accept().close()
        assert p.has_none()


def test_a_refused_connect_goes_on_to_the_next(balancer: MakeBalancer, endpoint: MakeEndpoint, port: MakePort) -> None:
    dead, good = endpoint(is_up=False), port()
    lb = balancer(dead.value, good.value, mode="tcp")
    for number in range(4):
        client = lb.client()
        client.send(b"hello")
        peer = good.accept()
        assert peer.stream.take(5) == b"hello", number
        client.close()
        peer.close()
    assert lb.state(dead.value)[0] == "set aside"
    assert lb.endpoint_counter(dead.value, metrics.SET_ASIDES) == 1


def test_a_connect_that_is_swallowed_goes_on_too(
    balancer: MakeBalancer, black_hole: MakeBlackHole, port: MakePort
) -> None:
    hole, good = black_hole(), port()
    lb = balancer(hole.value, good.value, mode="tcp", connect_timeout=0.2)
    clients = [lb.client() for _ in range(2)]
    for client in clients:
        client.send(b"x")
    for _ in clients:
        assert good.accept().stream.take(1) == b"x"


def test_no_endpoint_is_a_reset(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    dead = endpoint(is_up=False)
    lb = balancer(dead.value, mode="tcp", endpoint_wait=0.3)
    client = lb.client()
    assert client.how_closed() == "reset"
    assert lb.ends() == {"connect_refused": 1}


def test_an_endpoint_that_comes_in_time_takes_who_waits(
    balancer: MakeBalancer, endpoint: MakeEndpoint, port: MakePort
) -> None:
    dead, good = endpoint(is_up=False), port()
    lb = balancer(dead.value, mode="tcp", endpoint_wait=60.0)
    client = lb.client()
    client.send(b"early")
    client.fin()
    eventually(lambda: len(lb.service.waiting) == 1, "the wait")
    lb.publish(dead.value, good.value)
    peer = good.accept()
    assert peer.stream.take_to_end() == b"early"
    peer.send(b"late")
    peer.fin()
    assert client.stream.take_to_end() == b"late"


def test_a_client_that_leaves_while_it_waits(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    dead = endpoint(is_up=False)
    lb = balancer(dead.value, mode="tcp", endpoint_wait=60.0)
    client = lb.client()
    eventually(lambda: len(lb.service.waiting) == 1, "the wait")
    client.reset()
    # (uvloop and asyncio notice it when they look at the connection next.)
    if lb.config.loop == "epoll":
        assert lb.ends() == {"client_gone": 1}
        assert len(lb.service.waiting) == 0
    else:
        lb.call(lambda: [connection.abort() for connection in list(lb.server.proxy.connections)])


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"\r\n\r\n\n\n\0"],
    ids=["HTTP", "TLS", "line ends"],
)
def test_nothing_is_read_into_it(data: bytes, balancer: MakeBalancer, port: MakePort) -> None:
    there = port()
    client = balancer(there.value, mode="tcp").client()
    noise = os.urandom(100_000)
    client.send(data, noise)
    client.fin()
    peer = there.accept()
    assert peer.stream.take_to_end() == data + noise
    peer.send(noise, data)
    peer.fin()
    assert client.stream.take_to_end() == noise + data


def test_a_server_that_speaks_first(balancer: MakeBalancer, port: MakePort) -> None:
    there = port()
    client = balancer(there.value, mode="tcp").client()
    there.accept().send(b"220 ready\r\n")
    assert client.stream.take(11) == b"220 ready\r\n"


def test_accepting_pauses_at_max_connections(balancer: MakeBalancer, port: MakePort) -> None:
    there = port()
    lb = balancer(there.value, mode="tcp", max_connections=2)
    clients = [lb.client() for _ in range(3)]
    peers = [there.accept(), there.accept()]
    eventually(lambda: lb.counter(metrics.ACCEPT_PAUSES) >= 1, "the pause")
    assert lb.counter(metrics.CONNECTIONS) == 2, "none is closed for another"
    clients[0].close()
    peers[0].close()
    peers.append(there.accept())
    clients[2].send(b"x")
    assert peers[2].stream.take(1) == b"x"
    for peer in peers:
        peer.close()


def test_no_request_is_kept_for_the_next_client(balancer: MakeBalancer, port: MakePort) -> None:
    there = port()
    lb = balancer(there.value, mode="tcp")
    for _ in range(2):
        client = lb.client()
        peer = there.accept()
        client.fin()
        peer.fin()
        assert client.how_closed() == "fin"
    assert lb.idle(there.value) == 0
    assert lb.endpoint_counter(there.value, metrics.CONNECTS) == 2
