"""TCP mode before there is a tunnel: who is tried, who waits, who leaves; and that nothing is left of many."""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path

import pytest

from lb import metrics
from lb.why import Recorder
from tests.eventloop.splicing import Splices
from tests.fakes import Client, eventually, wait_for_standstill
from tests.integration.conftest import MakeBalancer, MakeBlackHole, MakeEndpoint, MakePort, MakeTunnels
from tests.integration.endpoint import Connection
from tests.integration.harness import Variant, often
from tests.integration.long_bodies import assert_spliced, digest_of
from tests.integration.tunnels import NASTY, ManualClock, Pump, Tunnels, read_all

pytestmark = pytest.mark.any_parser

MIB = 1 << 20


def test_all_are_tried_once(balancer: MakeBalancer, endpoint: MakeEndpoint, port: MakePort) -> None:
    """However many refuse, and whichever is first: the client does not notice."""
    dead, good = [endpoint(is_up=False) for _ in range(4)], port()
    lb = balancer(*[d.value for d in dead], good.value, mode="tcp", retries=0)
    client = lb.client()
    client.send(b"hello")
    peer = good.accept()
    assert peer.stream.take(5) == b"hello"
    assert [lb.state(d.value)[0] for d in dead].count("set aside") <= 4
    peer.send(b"hi")
    assert client.stream.take(2) == b"hi"


def test_an_endpoint_that_is_set_aside_is_not_dialled(
    balancer: MakeBalancer, endpoint: MakeEndpoint, port: MakePort
) -> None:
    clock = ManualClock()
    dead, good = endpoint(is_up=False), port()
    lb = balancer(dead.value, good.value, mode="tcp", clock=clock)
    for _ in range(10):
        lb.client()
        good.accept()
    assert lb.endpoint_counter(dead.value, metrics.PICKS) == 1
    assert lb.endpoint_counter(good.value, metrics.PICKS) == 10


def test_an_endpoint_that_returns_is_used_again(
    quick_set_aside: float, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a = endpoint(is_up=False, script=lambda connection: connection.wait_for_end())
    lb = balancer(a.value, mode="tcp", endpoint_wait=4.0)
    client = lb.client()
    eventually(lambda: len(lb.service.waiting) == 1, "the wait")
    a.up()
    eventually(lambda: len(a.connections) == 1, "the connection")
    client.fin()
    assert client.how_closed() == "fin"
    assert lb.ends() == {"ok": 1}


def test_no_endpoint_at_all(balancer: MakeBalancer) -> None:
    lb = balancer(mode="tcp", endpoint_wait=0.2)
    client = lb.client()
    client.send(b"nobody reads this")
    assert client.how_closed() == "reset"
    assert lb.ends() == {"no_endpoint": 1}


def test_more_than_may_wait_are_reset_at_once(balancer: MakeBalancer) -> None:
    lb = balancer(mode="tcp", endpoint_wait=60.0, max_waiting=2)
    waiting = [lb.client() for _ in range(2)]
    eventually(lambda: len(lb.service.waiting) == 2, "the wait")
    try:
        how = lb.client().how_closed()
    except ConnectionResetError:
        # It came before connect() had returned.
        how = "reset"
    assert how == "reset"
    assert all(client.is_silent() for client in waiting)
    assert lb._ends() == {"waiting_limit": 1}
    lb.call(lambda: [connection.abort() for connection in list(lb.server.proxy.connections)])
    assert lb.ends() == {"waiting_limit": 1, "drain_cut": 2}


def test_a_stop_cuts_who_waits(balancer: MakeBalancer, black_hole: MakeBlackHole) -> None:
    """For an endpoint, or for a connect."""
    lb = balancer(black_hole().value, mode="tcp", connect_timeout=60.0, drain_timeout=0.2)
    client = lb.client()
    lb.wait_for_exchanges(1)
    lb.call(lb.server.stop)
    assert client.how_closed() == "reset"
    assert lb.ends() == {"drain_cut": 1}


@pytest.mark.parametrize("leave", [Client.fin, Client.reset])
def test_a_client_that_leaves_while_its_endpoint_is_dialled(
    leave: object, balancer: MakeBalancer, black_hole: MakeBlackHole, port: MakePort
) -> None:
    """A FIN is kept for the endpoint; a reset ends the search, at the latest when it is over."""
    hole, good = black_hole(), port()
    lb = balancer(hole.value, good.value, mode="tcp", connect_timeout=0.3)
    clients = [lb.client() for _ in range(2)]
    lb.wait_for_exchanges(2)
    for client in clients:
        client.send(b"bye")
        leave(client)  # type: ignore[operator]
    for _ in clients:
        if leave is Client.fin:
            peer = good.accept()
            assert peer.stream.take_to_end() == b"bye"
            peer.fin()
    if leave is Client.fin:
        assert lb.ends() == {"ok": 2}
    else:
        assert lb.ends() == {"client_gone": 2}


def test_what_is_sent_before_the_connect_is_done_waits(
    balancer: MakeBalancer, black_hole: MakeBlackHole, port: MakePort
) -> None:
    """However much it is: podlb takes little of it, and the endpoint gets all."""
    hole, good = black_hole(), port()
    lb = balancer(hole.value, good.value, mode="tcp", connect_timeout=0.5)
    clients = [lb.client() for _ in range(2)]
    pumps = [Pump(client, 16 * MIB, fin=True) for client in clients]
    for _ in clients:
        peer = good.accept()
        assert read_all(peer) == digest_of(16 * MIB)
        peer.send(NASTY)
        peer.fin()
    for pump, client in zip(pumps, clients, strict=True):
        pump.join()
        assert client.stream.take_to_end() == NASTY
    assert lb.ends() == {"ok": 2}


def test_an_endpoint_that_goes_without_a_word(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """It took the connection: no other is tried, for nobody knows what it has done."""

    def leave(connection: Connection) -> None:
        assert connection.stream.take(1) == b"x"
        connection.close()

    a, b = endpoint(script=leave), endpoint(script=leave)
    lb = balancer(a.value, b.value, mode="tcp")
    for _ in range(2):
        client = lb.client()
        client.send(b"x")
        assert client.how_closed() == "fin"
        client.fin()
    assert len(a.connections) == len(b.connections) == 1
    lb.wait_until_idle()


def test_a_snapshot_moves_new_connections_alone(balancer: MakeBalancer, port: MakePort) -> None:
    a, b = port(), port()
    lb = balancer(a.value, mode="tcp")
    old = lb.client()
    old_peer = a.accept()
    lb.publish(b.value)
    new = lb.client()
    new_peer = b.accept()
    for client, peer in ((old, old_peer), (new, new_peer)):
        client.send(NASTY)
        assert peer.stream.take(len(NASTY)) == NASTY
        peer.send(NASTY)
        assert client.stream.take(len(NASTY)) == NASTY
    assert a.has_none()


@pytest.mark.one_variant
def test_bulk_goes_through_the_kernel(splices: Splices, variant: Variant, tunnels: MakeTunnels) -> None:
    """Nearly all of it, and small talk does not."""
    tunnel = tunnels()
    client, peer = tunnel.open()
    for _ in range(50):
        client.send(NASTY)
        assert peer.stream.take(len(NASTY)) == NASTY
    assert splices.calls == 0
    size = 48 * MIB
    pump = Pump(peer, size, fin=True)
    assert read_all(client) == digest_of(size)
    pump.join()
    assert_spliced(splices, variant)
    if variant.loop == "epoll":
        # Into the pipe, and out of it as far as the client took it at once.
        assert splices.bytes > size


def cycle(tunnel: Tunnels, count: int) -> None:
    """Open and close so many tunnels, in every way in turn."""
    for number in range(count):
        client, peer = tunnel.open()
        one, other = (client, peer) if number % 2 else (peer, client)
        if number % 3:
            one.fin()
            assert other.how_closed() == "fin"
            other.reset()
        else:
            one.reset()
            assert other.how_closed() == "reset"
        client.close()
        peer.close()
        # Both keep what they made, to close it at the end.
        tunnel.lb._clients.clear()
        tunnel.port._peers.clear()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_many_leave_no_object_and_no_descriptor(variant: Variant, tunnels: MakeTunnels) -> None:
    # What asyncio keeps of a time-out that was cancelled, it keeps until its time.
    tunnel = tunnels(connect_timeout=0.2)
    # What is remembered for /why is bounded: here so that the first fifty fill it.
    tunnel.lb.server.proxy.history.recorder = Recorder(failures=10, others=10)

    def objects() -> int:
        gc.collect()
        return len(gc.get_objects())

    cycle(tunnel, 50)
    eventually(lambda: not tunnel.lb.server.proxy.connections, "the end of all")
    # (In a process with very many objects, where each look takes long, something else comes and goes between two.)
    wait_for_standstill(objects, still=0.5, seconds=30.0, tolerance=50)
    before, files = objects(), descriptors()
    cycle(tunnel, often(10_000, variant))
    eventually(lambda: not tunnel.lb.server.proxy.connections, "the end of all")
    eventually(lambda: abs(objects() - before) <= 100, "the end of all objects")
    assert descriptors() <= files
    assert threading.active_count() < 10
