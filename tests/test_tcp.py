"""A client connection in TCP mode on made-up transports: until it has an endpoint, or has none."""

from __future__ import annotations

import gc

import pytest

from lb.deadline import NEVER
from lb.endpoint import Endpoint, make_endpoint
from lb.errors import ConnectFailure
from lb.metrics import CONNECTIONS, CONNECTIONS_OPEN, EXCHANGES
from lb.tcp import TcpDownstream
from lb.upstream import Upstream
from tests.tunnel_fakes import Loop, Transport, make_proxy

A, B = make_endpoint("10.0.0.1", 80), make_endpoint("10.0.0.2", 80)
WAIT = 3.0


class Harness:
    """One client connection, and the connects that were begun for it."""

    def __init__(self, *endpoints: Endpoint) -> None:
        self.loop = Loop()
        self.proxy, self.ended = make_proxy(self.loop, *endpoints, endpoint_wait=WAIT)
        self.made: list[Upstream] = []
        make = self.proxy.new_upstream

        def new_upstream(endpoint: Endpoint) -> Upstream:
            self.made.append(make(endpoint))
            return self.made[-1]

        self.proxy.new_upstream = new_upstream  # type: ignore[method-assign]
        self.client = Transport(self.loop)
        self.downstream = TcpDownstream(self.proxy)
        self.client.protocol = self.downstream
        self.downstream.connection_made(self.client)  # type: ignore[arg-type]

    def connected(self) -> Transport:
        """Let the last connect succeed; return its transport."""
        transport = Transport(self.loop)
        transport.protocol = self.made[-1]
        self.made[-1].connection_made(transport)  # type: ignore[arg-type]
        self.loop.end_turn()
        return transport

    def failed(self, failure: ConnectFailure = ConnectFailure.REFUSED) -> None:
        """Let the last connect fail."""
        upstream = self.made[-1]
        upstream._connecting = None
        sink, upstream._connect_sink = upstream._connect_sink, None
        assert sink is not None
        sink.upstream_connect_failed(upstream, failure)
        self.loop.end_turn()

    def pass_time(self, seconds: float) -> None:
        self.loop.now += seconds
        self.proxy.deadlines.expire(self.loop.now)
        self.loop.end_turn()

    def has_ended(self, reason: str) -> None:
        """Check that it has ended, once, and that nothing is kept."""
        assert [str(exchange.end_reason) for exchange in self.ended] == [reason]
        assert not self.proxy.connections
        assert not self.proxy.service.waiting
        assert self.proxy.deadlines.next_tick() == NEVER
        counters = self.proxy.counters
        assert [counters[at] for at in (CONNECTIONS, CONNECTIONS_OPEN, EXCHANGES)] == [1, 0, 1]


def test_nothing_is_read_before_there_is_an_endpoint() -> None:
    harness = Harness(A)
    assert harness.client.is_paused
    endpoint = harness.connected()
    assert not harness.client.is_paused
    harness.client.says(b"hello")
    endpoint.says(b"hi")
    harness.loop.end_turn()
    assert (harness.client.sent, endpoint.sent) == (b"hi", b"hello")
    assert harness.ended == []


def test_what_was_read_although_it_was_paused_goes_first() -> None:
    """As uvloop does it: one read, and the FIN behind it."""
    harness = Harness(A)
    harness.client.says(b"early")
    harness.client.ends()
    endpoint = harness.connected()
    assert endpoint.events == ["early", "FIN"]
    endpoint.says(b"answer")
    endpoint.ends()
    harness.loop.end_turn()
    assert harness.client.events == ["answer", "close"]
    harness.has_ended("ok")


@pytest.mark.parametrize("failure", [ConnectFailure.REFUSED, ConnectFailure.TIMED_OUT, ConnectFailure.UNREACHABLE])
def test_a_failed_connect_goes_on_to_the_next(failure: ConnectFailure) -> None:
    harness = Harness(A, B)
    harness.failed(failure)
    assert {upstream.endpoint for upstream in harness.made} == {A, B}
    endpoint = harness.connected()
    harness.client.says(b"x")
    harness.loop.end_turn()
    assert endpoint.sent == b"x"


def test_when_all_have_failed_it_waits_and_is_reset() -> None:
    harness = Harness(A, B)
    harness.failed()
    harness.failed()
    assert len(harness.made) == 2
    assert harness.client.events == []
    harness.pass_time(WAIT + 0.2)
    # A last try at each: by now they need not be set aside any more.
    harness.failed()
    harness.failed()
    assert len(harness.made) == 4
    assert harness.client.events == ["reset"]
    harness.has_ended("connect_refused")


def test_an_endpoint_that_comes_is_given_who_waits() -> None:
    harness = Harness()
    assert harness.made == []
    harness.proxy.replace((A,))
    harness.loop.end_turn()
    harness.connected()
    harness.pass_time(WAIT + 0.2)
    assert harness.client.events == [], "the time to wait no longer counts"
    assert harness.ended == []


def test_a_failure_of_this_machine_is_no_ones_fault() -> None:
    harness = Harness(A, B)
    harness.failed(ConnectFailure.LOCAL)
    assert len(harness.made) == 1
    assert harness.client.events == ["reset"]
    harness.has_ended("connect_failed")
    assert harness.proxy.service.set_aside.is_empty


@pytest.mark.parametrize("where", ["connecting", "waiting"])
def test_a_client_that_leaves(where: str) -> None:
    harness = Harness(*([A] if where == "connecting" else []))
    harness.client.breaks()
    harness.loop.end_turn()
    harness.has_ended("client_gone")
    assert [connect.is_cancelled for connect in harness.loop.connects] == [True] * len(harness.made)


def test_a_connect_that_is_done_behind_the_clients_end_is_reset() -> None:
    harness = Harness(A)
    harness.client.breaks()
    harness.loop.end_turn()
    assert harness.connected().events == ["reset"]
    harness.has_ended("client_gone")


@pytest.mark.parametrize("where", ["connecting", "waiting"])
def test_a_cut(where: str) -> None:
    harness = Harness(*([A] if where == "connecting" else []))
    harness.downstream.drain()
    assert harness.client.events == []
    assert harness.downstream.eviction_rank() is None
    harness.downstream.abort()
    harness.downstream.abort()
    harness.loop.end_turn()
    assert harness.client.events == ["reset"]
    harness.has_ended("drain_cut")
    assert [connect.is_cancelled for connect in harness.loop.connects] == [True] * len(harness.made)


def test_an_endpoint_is_not_kept_for_another() -> None:
    harness = Harness(A)
    endpoint = harness.connected()
    harness.client.ends()
    endpoint.ends()
    harness.loop.end_turn()
    harness.has_ended("ok")
    assert harness.proxy.service.pool.count(A.key) == 0


@pytest.mark.parametrize("is_connected", [True, False])
def test_nothing_of_it_waits_for_the_garbage_collector(is_connected: bool) -> None:
    def there() -> int:
        return sum(isinstance(thing, TcpDownstream) for thing in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = there()
        harness = Harness(A)
        if is_connected:
            harness.connected()
        else:
            harness.client.breaks()
            harness.loop.end_turn()
        assert there() == before + 1
        del harness.downstream
        assert there() == before
    finally:
        gc.enable()
