"""The hot path rule: what a keep-alive GET may cost in objects, writes and calls of the event loop."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from bench.micro.fixtures import RESPONSE, SMALL, CountingTransport, browser_heads
from lb.attempts import RetryRules
from lb.balancer.round_robin import RoundRobin
from lb.config import Config
from lb.downstream import Downstream
from lb.endpoint import make_endpoint
from lb.metrics import ENDED_OK, Metrics
from lb.pool import Pool
from lb.proxy import Proxy
from lb.service import Service
from lb.upstream import Upstream

IN_FLIGHT = 200


class CountingLoop:
    """A loop that may be asked for `call_soon` only, and counts."""

    outbox = None
    splice_from = float("inf")

    def __init__(self) -> None:
        self.soon: list[Any] = []

    def call_soon(self, callback: Any) -> None:
        self.soon.append(callback)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the hot path calls loop.{name}")

    def turn(self) -> int:
        """Run what is due; return how much that was."""
        due, self.soon = self.soon, []
        for callback in due:
            callback()
        return len(due)


class Bench:
    """Many client connections, and an idle upstream connection for each."""

    def __init__(self, parser: str) -> None:
        self.loop = CountingLoop()
        config = Config(parser=parser)  # type: ignore[arg-type]
        service: Service[Upstream] = Service(
            policy=RoundRobin(),
            pool=Pool(idle_timeout=4.0, max_idle=IN_FLIGHT),
            metrics=Metrics(),
            rules=RetryRules(),
            max_waiting=8,
        )
        self.proxy = Proxy(config, service, self.loop, clock=lambda: 1000.0, id_prefix=b"0" * 16)  # type: ignore[arg-type]
        self.proxy.file_deadline = lambda connection: None  # type: ignore[method-assign]
        endpoint = make_endpoint("127.0.0.1", 9001)
        self.proxy.replace((endpoint,))
        self.upstreams = []
        for _ in range(IN_FLIGHT):
            upstream = self.proxy.new_upstream(endpoint)
            upstream.transport = CountingTransport()  # type: ignore[assignment]
            service.pool.checkin(endpoint.key, upstream, 1000.0)
            self.upstreams.append(upstream)
        self.clients = [CountingTransport() for _ in range(IN_FLIGHT)]
        self.connections = [Downstream(self.proxy) for _ in range(IN_FLIGHT)]
        for connection, client in zip(self.connections, self.clients, strict=True):
            connection.connection_made(client)  # type: ignore[arg-type]

    def request(self, heads: list[bytes]) -> None:
        for connection, head in zip(self.connections, heads, strict=True):
            connection.data_received(head)

    def respond(self) -> None:
        for upstream in self.upstreams:
            upstream.data_received(RESPONSE)


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("parser", ["auto", "h11"])
@pytest.mark.parametrize("heads", [[SMALL] * IN_FLIGHT, browser_heads(IN_FLIGHT)], ids=["same head", "browser heads"])
def test_objects_of_a_request_in_flight(no_collection: None, parser: str, heads: list[bytes]) -> None:
    bench = Bench(parser)
    for _ in range(2):
        bench.request(heads)
        bench.loop.turn()
        bench.respond()
        bench.loop.turn()
    before = gc.get_count()[0]
    bench.request(heads)
    bench.loop.turn()
    in_flight = gc.get_count()[0] - before
    bench.respond()
    bench.loop.turn()
    assert 0 < in_flight / IN_FLIGHT <= 3
    # When it is over nothing stays, but for what the caches keep.
    assert gc.get_count()[0] - before <= IN_FLIGHT / 10
    assert bench.proxy.counters[ENDED_OK] == 3 * IN_FLIGHT


@pytest.mark.parametrize("parser", ["auto", "h11"])
def test_one_write_to_each_side_and_one_call_of_the_loop_a_turn(parser: str) -> None:
    bench = Bench(parser)
    bench.request([SMALL] * IN_FLIGHT)
    assert bench.loop.turn() == 1
    assert [upstream.transport.writes for upstream in bench.upstreams] == [1] * IN_FLIGHT  # type: ignore[attr-defined]
    bench.respond()
    assert bench.loop.turn() == 1
    assert [client.writes for client in bench.clients] == [1] * IN_FLIGHT


def test_a_connection_is_freed_without_the_collector(no_collection: None) -> None:
    bench = Bench("auto")
    before = len(gc.get_objects())
    for _ in range(50):
        connection = Downstream(bench.proxy)
        connection.connection_made(CountingTransport())  # type: ignore[arg-type]
        connection.connection_lost(None)
    del connection
    assert len(gc.get_objects()) - before <= 5
