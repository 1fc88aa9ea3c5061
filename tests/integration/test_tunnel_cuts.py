"""Tunnels that are cut while bytes are on their way: who has not got all sees a reset, who has got all keeps it."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from lb import metrics
from tests.fakes import DEADLINE, Client, eventually, wait_for_standstill
from tests.integration.long_bodies import body_of
from tests.integration.test_tunnel import both, ends
from tests.integration.tunnels import MakeTunnels, ManualClock, Pump, Tunnels, fill, fill_until

pytestmark = pytest.mark.any_parser

MIB = 1 << 20
IDLE = 100.0
REASONS = {"client": "client_gone", "endpoint": "reset_in_body"}


def closed(tunnel: Tunnels, reason: str) -> None:
    """Check the reason, and that nothing is left."""
    assert tunnel.lb.ends() == {reason: 1}
    # The reason is counted before the tunnel is forgotten, and this thread can look in between.
    eventually(lambda: not tunnel.lb.server.proxy.connections, "the end of the tunnel")
    assert tunnel.lb.counter(metrics.CONNECTIONS_OPEN) == 0


def truncated(end: Client) -> None:
    """Read on: sooner or later there must be a reset."""
    with pytest.raises(ConnectionResetError):
        end.stream.take_to_end()


def settle(tunnel: Tunnels, client: Client, peer: Client) -> None:
    """Let a byte go each way, and wait until it is acknowledged: what is not may pass for a slow reader."""
    for end, other in ((client, peer), (peer, client)):
        end.send(b"1")
        assert other.stream.take(1) == b"1"
    eventually(lambda: tunnel.unsent() == 0, "the acknowledgement")


@both
@pytest.mark.parametrize("sender", ["client", "endpoint"])
def test_a_reset_in_a_long_stream(first: str, sender: str, tunnels: MakeTunnels) -> None:
    """Whoever of the two resets, and whichever way the bytes go."""
    tunnel = tunnels()
    client, peer = tunnel.open()
    one, other = ends(client, peer, first)
    source, sink = ends(client, peer, sender)
    pump = Pump(source, 64 * MIB)
    assert sink.stream.take(4 * MIB) == body_of(4 * MIB)
    one.reset()
    if other is sink:
        truncated(other)
    # Else whoever sends is told.
    pump.join()
    assert not pump.is_done
    closed(tunnel, REASONS[first])


@both
def test_a_reset_behind_bytes_in_one_turn(first: str, tunnels: MakeTunnels) -> None:
    """The bytes may be lost, but the end must not look like a good one."""
    tunnel = tunnels()
    client, peer = tunnel.open()
    settle(tunnel, client, peer)
    one, other = ends(client, peer, first)
    with tunnel.lb.frozen():
        one.send(b"bytes")
        one.reset()
    truncated(other)
    closed(tunnel, REASONS[first])


@both
def test_both_reset_in_one_turn(first: str, tunnels: MakeTunnels) -> None:
    tunnel = tunnels()
    client, peer = tunnel.open()
    settle(tunnel, client, peer)
    one, other = ends(client, peer, first)
    with tunnel.lb.frozen():
        one.reset()
        other.reset()
    assert sum(tunnel.lb.ends().values()) == 1
    eventually(lambda: not tunnel.lb.server.proxy.connections, "the end of the tunnel")


@both
def test_a_reset_of_the_one_that_stands_still(first: str, tunnels: MakeTunnels) -> None:
    """What podlb holds for it is dropped."""
    tunnel = tunnels(receive_buffer=16384)
    one, other = ends(*tunnel.open(receive_buffer=16384), first)
    fill(other)
    assert tunnel.buffered() > 0
    one.reset()
    assert other.how_closed() == "reset"
    closed(tunnel, REASONS[first])


@both
def test_a_close_with_unread_bytes_is_a_reset(first: str, tunnels: MakeTunnels) -> None:
    tunnel = tunnels()
    one, other = ends(*tunnel.open(), first)
    other.send(b"nobody reads this")
    eventually(lambda: not one.is_silent(), "its arrival")
    one.close()
    assert other.how_closed() == "reset"
    closed(tunnel, REASONS[first])


def given_all(tunnel: Tunnels, first: str) -> tuple[Client, Client, int]:
    """Let one side send all and its FIN; return it, and the other, which has read nothing of so many bytes yet.

    podlb has read the FIN, and holds the last of the bytes still.
    """
    one, other = ends(*tunnel.open(receive_buffer=16384), first)
    size = fill_until(one, tunnel.buffered)
    one.fin()
    eventually(lambda: tunnel.has_fin(first), "the FIN")
    assert 0 < tunnel.buffered() <= 65536
    return one, other, size


@both
def test_who_was_given_all_may_go_on_sending(first: str, tunnels: MakeTunnels) -> None:
    """The endpoint has answered and closed; a client that says QUIT behind that must not lose the answer to it."""
    tunnel = tunnels(receive_buffer=16384)
    one, other, size = given_all(tunnel, first)
    one.reset()
    if tunnel.lb.config.loop != "epoll":
        # The others look at a connection that has sent its FIN no more: they notice it when they write.
        other.send(b"QUIT\r\n")
    eventually(lambda: tunnel.has_lost(first), "the loss of one side")
    for _ in range(3):
        other.send(b"QUIT\r\n" * 1000)
    assert other.stream.take_to_end() == bytes(size)
    other.fin()
    closed(tunnel, REASONS[first])


@both
def test_who_was_given_all_and_stands_still(first: str, tunnels: MakeTunnels) -> None:
    """It is waited for as long as a body may stand still, however much it sends."""
    clock = ManualClock()
    tunnel = tunnels(receive_buffer=16384, clock=clock, tunnel_idle_timeout=3600.0, body_idle_timeout=IDLE)
    one, other, _ = given_all(tunnel, first)
    # What the kernel still takes in would be a step forward.
    wait_for_standstill(tunnel.unsent)
    other.send(b"x")
    one.reset()
    other.send(b"x")
    eventually(lambda: tunnel.has_lost(first), "the loss of one side")
    for _ in range(12):
        other.send(b"x")
        clock.pass_(tunnel.lb, IDLE / 4 + 0.2)
        if not tunnel.lb.server.proxy.connections:
            break
    eventually(lambda: not tunnel.lb.server.proxy.connections, "the end of the tunnel")
    assert clock.now < 1000 + 2.1 * IDLE
    closed(tunnel, REASONS[first])


# Time


@both
def test_a_slow_reader_is_not_idle(first: str, tunnels: MakeTunnels) -> None:
    """It takes some of what podlb and the kernel hold now and then; then it stands still."""
    clock = ManualClock()
    tunnel = tunnels(receive_buffer=16384, clock=clock, tunnel_idle_timeout=IDLE)
    sender, slow = ends(*tunnel.open(receive_buffer=16384), first)
    sent = fill(sender)
    for _ in range(12):
        clock.pass_(tunnel.lb, IDLE * 0.6)
        before = tunnel.unsent()
        while tunnel.unsent() >= before:
            slow.stream.take(4096)
            sent -= 4096
        assert tunnel.lb.server.proxy.connections, "it was cut"
    assert sent > 0, "all was read: that was no slow reader"
    for _ in range(10):
        clock.pass_(tunnel.lb, IDLE * 0.3)
    truncated(slow)
    closed(tunnel, "tunnel_idle")


@both
def test_the_last_bytes_have_the_time_of_a_body(first: str, tunnels: MakeTunnels) -> None:
    """Both FINs were read: a reader that stands still then is not waited for as long as a silent tunnel."""
    clock = ManualClock()
    tunnel = tunnels(receive_buffer=16384, clock=clock, tunnel_idle_timeout=3600.0, body_idle_timeout=IDLE)
    _, still, _ = given_all(tunnel, first)
    still.fin()
    eventually(lambda: all(map(tunnel.has_fin, REASONS)), "both FINs")
    clock.pass_(tunnel.lb, IDLE - 1)
    assert tunnel.lb.server.proxy.connections
    for _ in range(10):
        clock.pass_(tunnel.lb, IDLE * 0.3)
    truncated(still)
    closed(tunnel, "tunnel_idle")


# Drain


@both
def test_a_drain_cuts_a_long_stream(first: str, tunnels: MakeTunnels) -> None:
    tunnel = tunnels(drain_timeout=0.3)
    sender, reader = ends(*tunnel.open(), first)
    stop = threading.Event()

    def send() -> None:
        with suppress(OSError):  # it was cut
            while not stop.is_set():
                sender.send(bytes(100_000))

    thread = threading.Thread(target=send)
    thread.start()
    reader.stream.take(MIB)
    tunnel.lb.call(tunnel.lb.server.stop)
    truncated(reader)
    stop.set()
    thread.join(DEADLINE)
    closed(tunnel, "drain_cut")


def test_a_second_stop_cuts_at_once(tunnels: MakeTunnels) -> None:
    tunnel = tunnels(drain_timeout=60.0)
    client, peer = tunnel.open()
    settle(tunnel, client, peer)
    for _ in range(2):
        tunnel.lb.call(tunnel.lb.server.stop)
    assert client.how_closed() == peer.how_closed() == "reset"
    closed(tunnel, "drain_cut")


# What is left


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_descriptor_is_left(tunnels: MakeTunnels) -> None:
    """However they end."""
    tunnel = tunnels()
    warm = tunnel.open()
    settle(tunnel, *warm)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(20):
        client, peer = tunnel.open()
        settle(tunnel, client, peer)
        one, other = ends(client, peer, ["client", "endpoint"][number % 2])
        if number % 4 < 2:
            one.reset()
            assert other.how_closed() == "reset"
        else:
            one.fin()
            assert other.how_closed() == "fin"
            other.fin()
            assert one.how_closed() == "fin"
        for end in (client, peer):
            end.close()
    eventually(lambda: len(tunnel.lb.server.proxy.connections) == 1, "the end of all other tunnels")
    eventually(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before, "the close of all sockets")


def test_one_that_ends_leaves_the_others_alone(tunnels: MakeTunnels) -> None:
    tunnel = tunnels()
    client, peer = tunnel.open()
    for _ in range(5):
        other = tunnel.open()
        settle(tunnel, *other)
        other[0].reset()
        assert other[1].how_closed() == "reset"
    client.send(b"still here")
    assert peer.stream.take(10) == b"still here"
    eventually(lambda: len(tunnel.lb.server.proxy.connections) == 1, "the end of the others")
