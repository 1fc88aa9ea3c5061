"""A client's connection on made-up transports and a made-up loop: what happens within one turn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from lb.attempts import RetryRules
from lb.balancer.round_robin import RoundRobin
from lb.config import Config
from lb.downstream import Downstream
from lb.endpoint import Endpoint, make_endpoint
from lb.errors import EndReason
from lb.metrics import Metrics
from lb.pool import Pool
from lb.proxy import Proxy
from lb.service import Service
from lb.upstream import Upstream

A, B = make_endpoint("10.0.0.1", 80), make_endpoint("10.0.0.2", 80)
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n"


class Handle:
    def cancel(self) -> None:
        pass


class Loop:
    """Runs callbacks when the test says that a turn ends."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.later: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        self.soon.append(partial(callback, *arguments))

    def call_later(self, delay: float, callback: Callable[..., None], *arguments: Any) -> Handle:
        self.later.append(partial(callback, *arguments))
        return Handle()

    def create_task(self, coroutine: Any) -> Handle:
        coroutine.close()
        return Handle()

    def time_passes(self) -> None:
        """Run what waits for its time."""
        later, self.later = self.later, []
        for callback in later:
            callback()

    def end_turn(self) -> None:
        while self.soon:
            soon, self.soon = self.soon, []
            for callback in soon:
                callback()


class Transport:
    def __init__(self) -> None:
        self.sent = b""
        self.closing = False

    def write(self, data: bytes) -> None:
        assert not self.closing
        self.sent += data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def get_extra_info(self, name: str) -> Any:
        return ("192.0.2.1", 5) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass


class Harness:
    """One client connection, and the upstream connections that were made for it."""

    def __init__(self, *endpoints: Endpoint, **settings: Any) -> None:
        self.loop = Loop()
        service: Service[Upstream] = Service(
            policy=RoundRobin(endpoints),
            pool=Pool(idle_timeout=4.0, max_idle=8),
            metrics=Metrics(),
            rules=RetryRules(),
            max_waiting=10,
        )
        service.replace(endpoints, 1.0)
        self.proxy = Proxy(Config(**settings), service, self.loop, clock=lambda: 1.0, id_prefix=b"x")  # type: ignore[arg-type]
        self.made: list[Upstream] = []
        self._make = make = self.proxy.new_upstream

        def new_upstream(endpoint: Endpoint) -> Upstream:
            self.made.append(make(endpoint))
            return self.made[-1]

        self.proxy.new_upstream = new_upstream  # type: ignore[method-assign]
        self.client = Transport()
        self.downstream = Downstream(self.proxy)
        self.downstream.connection_made(self.client)  # type: ignore[arg-type]

    def pooled(self, endpoint: Endpoint) -> Upstream:
        upstream = self._make(endpoint)
        upstream.transport = Transport()  # type: ignore[assignment]
        upstream.reused = True
        self.proxy.service.pool.checkin(endpoint.key, upstream, 1.0)
        return upstream

    def connected(self) -> Transport:
        """Let the connect that is under way succeed; return its transport."""
        [upstream] = self.made
        transport = Transport()
        upstream.connection_made(transport)  # type: ignore[arg-type]
        self.loop.end_turn()
        return transport


def test_a_post_whose_pooled_connection_dies_in_the_same_turn_goes_on_with_its_body() -> None:
    harness = Harness(A, B)
    upstream = harness.pooled(A)
    harness.downstream.data_received(POST + b"0123456789")
    upstream.connection_lost(None)
    assert harness.connected().sent.endswith(b"\r\n\r\n0123456789")


def test_a_post_of_which_a_part_was_written_goes_nowhere_else() -> None:
    harness = Harness(A, B)
    upstream = harness.pooled(A)
    harness.downstream.data_received(POST + b"01234")
    harness.loop.end_turn()
    assert upstream.transport.sent.endswith(b"01234")  # type: ignore[attr-defined]
    harness.downstream.data_received(b"56789")
    upstream.connection_lost(None)
    harness.loop.end_turn()
    assert harness.made == []
    assert harness.client.sent.startswith(b"HTTP/1.1 502 ")


def test_a_response_that_is_held_survives_the_clients_fin_of_the_same_turn() -> None:
    harness = Harness(A)
    upstream = harness.pooled(A)
    harness.downstream.data_received(GET)
    harness.loop.end_turn()
    upstream.data_received(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 2\r\n\r\nok")
    if not harness.downstream.eof_received():
        # Then a transport closes by itself.
        harness.client.close()
    harness.loop.end_turn()
    assert harness.client.sent.endswith(b"\r\n\r\nok")


def test_empty_lines_between_requests_that_are_remembered_are_counted_anew() -> None:
    harness = Harness(A)
    for _ in range(3):
        harness.proxy.requests.read(GET)
    assert harness.proxy.requests.get(GET) is not None
    upstream = harness.pooled(A)
    for number in range(4):
        harness.downstream.data_received(b"\r\n")
        harness.downstream.data_received(GET)
        harness.loop.end_turn()
        assert b" 400 " not in harness.client.sent, number
        upstream.data_received(b"HTTP/1.1 204 No Content\r\nDate: d\r\n\r\n")
        harness.loop.end_turn()
    assert harness.client.sent.count(b" 204 ") == 4


def test_an_empty_line_alone_begins_no_head() -> None:
    harness = Harness(A)
    upstream = harness.pooled(A)
    harness.downstream.data_received(GET)
    harness.loop.end_turn()
    upstream.data_received(b"HTTP/1.1 204 No Content\r\nDate: d\r\n\r\n")
    idle = harness.downstream.deadline
    harness.downstream.data_received(b"\r\n")
    assert harness.downstream.deadline == idle
    harness.downstream.data_received(b"G")
    assert harness.downstream.deadline < idle


def test_a_fin_that_is_told_while_reading_is_paused_counts_as_gone() -> None:
    harness = Harness(A)
    upstream = harness.pooled(A)
    harness.downstream.data_received(GET)
    harness.loop.end_turn()
    harness.downstream.peer_closed_while_paused()
    assert harness.client.closing
    assert upstream.transport.is_closing()
    assert dict(harness.proxy.service.metrics.endings())[EndReason.CLIENT_GONE] == 1


def test_but_not_where_it_is_a_half_close_nor_once_the_response_has_begun() -> None:
    half_close = Harness(A, abort_on_client_fin=False)
    half_close.pooled(A)
    half_close.downstream.data_received(GET)
    half_close.downstream.peer_closed_while_paused()
    assert not half_close.client.closing
    begun = Harness(A)
    upstream = begun.pooled(A)
    begun.downstream.data_received(GET)
    begun.loop.end_turn()
    upstream.data_received(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 2\r\n\r\no")
    begun.downstream.peer_closed_while_paused()
    upstream.data_received(b"k")
    begun.loop.end_turn()
    assert begun.client.sent.endswith(b"\r\n\r\nok")
