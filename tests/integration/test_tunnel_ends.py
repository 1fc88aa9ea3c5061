"""How tunnels end: resets, idleness, drains; and what the other side gets to see of it. Upgrades and TCP mode alike."""

from __future__ import annotations

import pytest

from lb import metrics
from tests.fakes import Client, eventually
from tests.integration.tunnels import MakeTunnels, ManualClock, Peer, Tunnels, fill

SIDES = pytest.mark.parametrize("first", ["client", "endpoint"])


def pair(tunnel: Tunnels, first: str) -> tuple[Client, Client, Client]:
    """Open a tunnel: the side that acts first, the other one, and the client."""
    client, peer = tunnel.open()
    return (client, peer, client) if first == "client" else (peer, client, client)


def settle(client: Client, peer: Client) -> None:
    """Let a byte go each way: the tunnel is there, and its clock runs."""
    client.send(b"1")
    assert peer.stream.take(1) == b"1"
    peer.send(b"2")
    assert client.stream.take(1) == b"2"


def wait_idle(clock: ManualClock, tunnel: Tunnels) -> None:
    """Let more than `tunnel_idle_timeout`, 100 s, pass. What is not acknowledged yet makes it look a few times."""
    for seconds in (101, 26, 26, 26, 26, 26):
        clock.pass_(tunnel.lb, seconds)


def ends(tunnel: Tunnels) -> dict[str, int]:
    eventually(lambda: tunnel.lb.counter(metrics.CONNECTIONS_OPEN) == 0, "the end of the client's connection")
    return tunnel.lb.ends()


@SIDES
def test_a_reset_is_passed_on(first: str, tunnels: MakeTunnels) -> None:
    tunnel = tunnels()
    mine, other, _ = pair(tunnel, first)
    mine.send(b"some")
    assert other.stream.take(4) == b"some"
    mine.reset()
    assert other.how_closed() == "reset"
    assert ends(tunnel) == {"client_gone" if first == "client" else "reset_in_body": 1}


@SIDES
def test_a_reset_after_the_others_fin(first: str, tunnels: MakeTunnels) -> None:
    """What the other one sent was complete, what it was sent was not."""
    tunnel = tunnels()
    mine, other, _ = pair(tunnel, first)
    other.fin()
    assert mine.how_closed() == "fin"
    mine.send(b"not all")
    assert other.stream.take(7) == b"not all"
    mine.reset()
    assert other.how_closed() == "reset"
    assert ends(tunnel) == {"client_gone" if first == "client" else "reset_in_body": 1}


@pytest.mark.slow
@SIDES
def test_a_reset_after_its_own_fin(first: str, tunnels: MakeTunnels) -> None:
    """What it sent was complete: the other one has got a FIN, and keeps it."""
    tunnel = tunnels()
    mine, other, _ = pair(tunnel, first)
    mine.send(b"all")
    mine.fin()
    assert other.stream.take(3) == b"all"
    assert not other.stream.fill()
    mine.reset()
    if tunnel.lb.config.loop != "epoll":
        # The others look at a connection that has sent its FIN no more: they notice it when they write.
        other.send(b"late")
    eventually(lambda: len(tunnel.lb.server.proxy.connections) == 0, "the end of the tunnel")
    assert other.how_closed() == "fin"
    assert ends(tunnel) == {"client_gone" if first == "client" else "reset_in_body": 1}


def test_both_fins_are_a_good_end(tunnels: MakeTunnels) -> None:
    tunnel = tunnels()
    client, peer = tunnel.open()
    client.fin()
    assert peer.how_closed() == "fin"
    peer.fin()
    assert client.how_closed() == "fin"
    assert ends(tunnel) == {"ok": 1}


def test_a_silent_tunnel_is_reset(tunnels: MakeTunnels) -> None:
    clock = ManualClock()
    tunnel = tunnels(clock=clock, tunnel_idle_timeout=100.0)
    client, peer = tunnel.open()
    settle(client, peer)
    clock.pass_(tunnel.lb, 99)
    assert client.is_silent()
    assert peer.is_silent()
    wait_idle(clock, tunnel)
    assert client.how_closed() == "reset"
    assert peer.how_closed() == "reset"
    assert ends(tunnel) == {"tunnel_idle": 1}


@SIDES
def test_a_byte_in_either_direction_keeps_it(first: str, tunnels: MakeTunnels) -> None:
    clock = ManualClock()
    tunnel = tunnels(clock=clock, tunnel_idle_timeout=100.0)
    mine, other, client = pair(tunnel, first)
    settle(mine, other)
    for _ in range(3):
        clock.pass_(tunnel.lb, 60)
        mine.send(b"x")
        assert other.stream.take(1) == b"x"
    assert client.is_silent()
    wait_idle(clock, tunnel)
    assert mine.how_closed() == "reset"
    assert ends(tunnel) == {"tunnel_idle": 1}


@SIDES
def test_half_closed_and_silent(first: str, tunnels: MakeTunnels) -> None:
    """Who was given the other's FIN keeps it; who was not is reset."""
    clock = ManualClock()
    tunnel = tunnels(clock=clock, tunnel_idle_timeout=100.0)
    mine, other, _ = pair(tunnel, first)
    mine.fin()
    assert not other.stream.fill()
    wait_idle(clock, tunnel)
    assert mine.how_closed() == "reset"
    assert other.how_closed() == "fin"
    assert ends(tunnel) == {"tunnel_idle": 1}


def test_a_reader_that_stands_still_is_idle_at_last(tunnels: MakeTunnels) -> None:
    clock = ManualClock()
    tunnel = tunnels(clock=clock, tunnel_idle_timeout=100.0)
    client, peer = tunnel.open(receive_buffer=4096)
    assert fill(peer) > 100_000
    wait_idle(clock, tunnel)
    assert ends(tunnel) == {"tunnel_idle": 1}
    client.close()


@pytest.mark.slow
def test_a_drain_lets_it_go_on_and_cuts_it_at_last(tunnels: MakeTunnels) -> None:
    tunnel = tunnels(drain_timeout=0.5)
    client, peer = tunnel.open()
    tunnel.lb.call(lambda: tunnel.lb.server.stop(skip_delay=True))
    client.send(b"still")
    assert peer.stream.take(5) == b"still"
    peer.send(b"here")
    assert client.stream.take(4) == b"here"
    assert client.how_closed() == "reset"
    assert peer.how_closed() == "reset"
    assert tunnel.lb.ends() == {"drain_cut": 1}


@pytest.mark.slow
@SIDES
def test_a_drain_leaves_a_fin_that_was_given(first: str, tunnels: MakeTunnels) -> None:
    tunnel = tunnels(drain_timeout=0.3)
    mine, other, _ = pair(tunnel, first)
    mine.send(b"all")
    mine.fin()
    assert other.stream.take(3) == b"all"
    tunnel.lb.call(lambda: tunnel.lb.server.stop(skip_delay=True))
    assert other.how_closed() == "fin"
    assert mine.how_closed() == "reset"
    assert other.how_closed() == "fin"
    assert tunnel.lb.ends() == {"drain_cut": 1}


def test_a_tunnel_that_ends_during_the_drain_ends_it(tunnels: MakeTunnels) -> None:
    tunnel = tunnels(drain_timeout=60.0)
    client, peer = tunnel.open()
    tunnel.lb.call(lambda: tunnel.lb.server.stop(skip_delay=True))
    client.fin()
    assert peer.how_closed() == "fin"
    peer.fin()
    assert client.how_closed() == "fin"
    assert ends(tunnel) == {"ok": 1}


def test_a_snapshot_without_its_endpoint_leaves_it(tunnels: MakeTunnels) -> None:
    tunnel = tunnels()
    client, peer = tunnel.open()
    tunnel.lb.publish()
    client.send(b"on")
    assert peer.stream.take(2) == b"on"


@pytest.mark.one_variant
def test_many_in_turn_leave_nothing(tunnels: MakeTunnels) -> None:
    tunnel = tunnels()
    for number in range(100):
        client, peer = tunnel.open()
        settle(client, peer)
        ways: list[tuple[Client | Peer, Client | Peer]] = [(client, peer), (peer, client)]
        mine, other = ways[number % 2]
        if number % 3:
            mine.fin()
            other.close()
        else:
            mine.reset()
        client.close()
        peer.close()
    # The counter falls before the tunnel is forgotten, and this thread can look in between.
    eventually(lambda: not tunnel.lb.server.proxy.connections, "the end of all")
    assert tunnel.lb.counter(metrics.CONNECTIONS_OPEN) == 0
    assert sum(tunnel.lb.ends().values()) == 100
