"""Bytes, connections, attempts and podlb's own time, as they are counted, against what really happened."""

from __future__ import annotations

import threading
import time

import pytest

from lb import metrics
from lb.histogram import BLOCK, cumulative
from tests.fakes import DEADLINE, chunked, eventually, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint, MakeTunnels
from tests.integration.endpoint import Connection, Message, respond, respond_when, response
from tests.integration.harness import Balancer
from tests.integration.long_bodies import answer_by_target, body_of

SIZE = 1 << 20


def times(lb: Balancer, block: int) -> tuple[int, float]:
    """Return how many were counted and their sum in seconds, of the histogram at `block`."""
    lb.call(lb.service.metrics.settle)
    return cumulative(lb.service.metrics.values[block : block + BLOCK])[1:]


def test_bytes_both_ways(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    lb = balancer(endpoint(default=answer_by_target))
    client = lb.client()
    sent = received = 0
    for raw in (
        request("GET", "/10"),
        request("GET", "/10", "A: b"),
        request("GET", f"/{SIZE}"),
        request("POST", "/100", body=b"x" * 1000),
        request("POST", "/100", f"Content-Length: {SIZE}") + body_of(SIZE),
        request("GET", "/10", "No Name: x"),
    ):
        client.send(raw)
        sent += len(raw)
        message = client.read_response()
        received += len(message.raw_head) + len(message.body)
    # The last was refused: nothing of it was read as a request.
    assert message.status == 400
    sent -= len(raw)
    lb.wait_until_idle()
    eventually(lambda: lb.counter(metrics.SENT_BYTES) == received, "the last byte")
    assert lb.counter(metrics.RECEIVED_BYTES) == sent


def test_bytes_of_chunked_bodies(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"12345", b"678")
    lb = balancer(endpoint(default=respond(answer)))
    client = lb.client()
    head = request("POST", "/", "Transfer-Encoding: chunked", "Connection: close")
    client.send(head + chunked(b"abc"))
    raw = client.stream.take_to_end()
    assert lb.ends() == {"ok": 1}
    assert lb.counter(metrics.SENT_BYTES) == len(raw)
    # Of bodies that come in chunks it is what is in them.
    assert lb.counter(metrics.RECEIVED_BYTES) == len(head) + 3


def test_bytes_of_a_tunnel(tunnels: MakeTunnels) -> None:
    tunnel = tunnels()
    client, peer = tunnel.open()
    before = tunnel.lb.counter(metrics.RECEIVED_BYTES), tunnel.lb.counter(metrics.SENT_BYTES)
    client.send(b"12345")
    assert peer.stream.take(5) == b"12345"
    peer.send(b"678")
    assert client.stream.take(3) == b"678"
    assert tunnel.lb.counter(metrics.RECEIVED_BYTES) == before[0] + 5
    assert tunnel.lb.counter(metrics.SENT_BYTES) == before[1] + 3


def test_connections_in_use(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    go_on = threading.Event()
    a = endpoint(default=respond_when(go_on, response()))
    lb = balancer(a)
    clients = [lb.client() for _ in range(3)]
    for client in clients:
        client.send(request())
    a.wait_for_requests(3)
    assert lb.endpoint_counter(a.value, metrics.OPEN) == 3
    assert lb.idle(a.value) == 0
    go_on.set()
    assert [client.read_response().status for client in clients] == [200] * 3
    lb.wait_until_idle()
    assert lb.endpoint_counter(a.value, metrics.OPEN) == lb.idle(a.value) == 3
    a.reset_all()
    eventually(lambda: lb.endpoint_counter(a.value, metrics.OPEN) == 0, "the end of all connections")


def test_a_connection_that_was_kept_and_is_dead(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    def hang_up(connection: Connection, message: Message) -> None:
        connection.reset()

    a = endpoint(respond(response()), hang_up)
    lb = balancer(a)
    client = lb.client()
    assert [client.get().status for _ in range(2)] == [200, 200]
    assert lb.endpoint_counter(a.value, metrics.STALE) == 1
    assert failures(lb) == {"reset": (1, 1)}


def failures(lb: Balancer) -> dict[str, tuple[int, int]]:
    """Return by how they failed how many attempts did, and how many were followed by another."""
    return {word: (failed, retried) for word, failed, retried in lb.service.metrics.attempt_failures() if failed}


def test_attempts_that_failed(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    bad = endpoint(default=respond(response(status="503 No")))
    lb = balancer(endpoint(is_up=False), bad, endpoint(), retry_on=("connect", "reset", "503"))
    client = lb.client()
    assert [client.get().status for _ in range(6)] == [200] * 6
    found = failures(lb)
    assert found["connect_refused"] == (1, 1)
    assert found["unavailable"][0] == found["unavailable"][1] == len(bad.requests) >= 2


def test_an_attempt_that_nothing_follows(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    lb = balancer(endpoint(is_up=False), endpoint_wait=0.0)
    assert lb.client().get().status == 503
    assert failures(lb) == {"connect_refused": (1, 0)}


def test_the_time_of_an_endpoint_is_not_ours(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    def slowly(connection: Connection, message: Message) -> None:
        # What the endpoint takes for it: the time that is measured.
        time.sleep(0.2)
        connection.send(response())

    lb = balancer(endpoint(default=slowly))
    client = lb.client()
    assert [client.get().status for _ in range(2)] == [200, 200]
    assert client.exchange(request("POST", "/", body=b"x")).status == 200
    lb.wait_until_idle()
    count, overhead = times(lb, metrics.OVERHEAD_TIME)
    assert count == 3
    assert overhead < 0.2


@pytest.mark.parametrize("body", [b"", b"x" * 10])
def test_the_time_of_a_failed_attempt_is_not_ours(body: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """One endpoint takes no connection, one takes the request and hangs up late."""

    def hang_up_late(connection: Connection, message: Message) -> None:
        # As above.
        time.sleep(0.2)
        connection.reset()

    mute = endpoint()
    lb = balancer(mute, connect_timeout=0.2, endpoint_wait=5.0)
    mute.swallow()
    late, good = endpoint(default=hang_up_late), endpoint()
    lb.publish(mute.value, late.value, good.value)
    client = lb.client()
    for _ in range(3):
        message = client.exchange(request("PUT", "/", body=body) if body else request())
        assert message.status == 200
    lb.wait_until_idle()
    found = failures(lb)
    assert found["reset"][1] >= 1
    assert found["connect_timeout"][1] >= 1
    count, overhead = times(lb, metrics.OVERHEAD_TIME)
    assert count == 3
    assert overhead < 0.2


def test_a_turn_that_takes_long_is_ours(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """The loop does something else for 0.3 s, while a request waits for it."""
    lb = balancer(endpoint())
    client = lb.client()
    assert client.get().status == 200
    lb.wait_until_idle()
    _, before = times(lb, metrics.LAG_TIME)

    def lags() -> bool:
        lb.call(time.sleep, 0.3)
        return times(lb, metrics.LAG_TIME)[1] - before > 0.05

    # (A timer is due every 0.5 s.)
    eventually(lags, "a timer that is late")


@pytest.mark.parametrize("status", ["200 OK", "503 No"])
def test_endpoints_that_answer_before_they_are_asked(
    status: str, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """They reset the connection behind that: nothing of a request is ever written, and no time may be below zero."""

    def blurt_out(connection: Connection) -> None:
        connection.send(response(status=status))
        connection.reset()

    lb = balancer(endpoint(script=blurt_out), endpoint(), retry_on=("connect", "reset", "503"))
    client = lb.client()
    for _ in range(60):
        client.get()
    lb.wait_until_idle()
    count, overhead = times(lb, metrics.OVERHEAD_TIME)
    assert 0 < count <= 60
    assert 0.0 <= overhead < DEADLINE
    assert lb.client().get().status in (200, 503, 502)
