"""Requests are balanced, not connections; counted where they arrive."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from lb import metrics
from tests.fakes import request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Endpoint, close, respond_and_close, respond_when, response


def spread(endpoints: list[Endpoint]) -> int:
    counts = [len(endpoint.requests) for endpoint in endpoints]
    return max(counts) - min(counts)


def trio(endpoint: MakeEndpoint) -> list[Endpoint]:
    return [endpoint(name=name) for name in "abc"]


def test_requests_of_one_connection_take_turns(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    endpoints = trio(endpoint)
    client = balancer(*endpoints).client()
    answered = [client.get().body.decode() for _ in range(10)]
    assert all("abc".find(after) == ("abc".find(before) + 1) % 3 for before, after in pairwise(answered)), answered
    assert spread(endpoints) == 1
    assert [len(e.connections) for e in endpoints] == [1, 1, 1]


def test_a_connection_per_request(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    endpoints = trio(endpoint)
    lb = balancer(*endpoints)
    for _ in range(9):
        client = lb.client()
        assert client.get("/", "Connection: close").status == 200
        assert client.how_closed() == "fin"
    assert [len(e.requests) for e in endpoints] == [3, 3, 3]
    assert [len(e.connections) for e in endpoints] == [1, 1, 1], "upstream connections are reused all the same"


def test_interleaved_connections(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    endpoints = trio(endpoint)
    lb = balancer(*endpoints)
    clients = [lb.client() for _ in range(4)]
    for _ in range(10):
        for client in clients:
            client.send(request())
        for client in clients:
            assert client.read_response().status == 200
    assert sum(len(e.requests) for e in endpoints) == 40
    assert spread(endpoints) <= 1
    picks = [lb.endpoint_counter(e.value, metrics.PICKS) for e in endpoints]
    assert picks == [len(e.requests) for e in endpoints]


@pytest.mark.one_variant
def test_instances_start_at_different_places(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    endpoints = [endpoint(name=name) for name in "abcdefgh"]
    first = {balancer(*endpoints).client().get().body for _ in range(12)}
    assert len(first) > 1


def test_a_new_snapshot_keeps_the_place(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    endpoints = trio(endpoint)
    fourth = endpoint(name="d")
    lb = balancer(*endpoints)
    client = lb.client()
    order = [client.get().body.decode() for _ in range(3)]
    by_name = {e.name: e for e in endpoints}
    turn = [by_name[name].value for name in order]
    lb.publish(*turn, fourth.value)
    assert client.get().body.decode() == order[0], "the one whose turn it was"
    assert [client.get().body.decode() for _ in range(3)] == [order[1], order[2], "d"]
    lb.publish(turn[1], fourth.value)
    assert [client.get().body.decode() for _ in range(2)] == [order[1], "d"]


def test_a_retry_does_not_move_the_place(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a, b, c = endpoint(name="a"), endpoint(close, name="b"), endpoint(name="c")
    lb = balancer(a, b, c)
    client = lb.client()
    answered = [client.get().body.decode() for _ in range(6)]
    # b fails its first request, which goes to c; then it is the next one's turn as if nothing had been.
    turns = ["abcabc", "bcabca", "cabcab"]
    assert "".join(answered) in [turn.replace("b", "c", 1) for turn in turns]
    assert [len(e.requests) for e in (a, b, c)] == [2, 2, 3]
    assert lb.endpoint_counter(c.value, metrics.RETRIES) == 1


def test_what_is_not_ready_gets_nothing(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a, b = endpoint(name="a"), endpoint(name="b")
    lb = balancer(a, b.value._replace(ready=False))
    client = lb.client()
    assert {client.get().body for _ in range(4)} == {b"a"}
    lb.publish(a.value, b.value)
    assert {client.get().body for _ in range(4)} == {b"a", b"b"}
    assert [len(a.requests), len(b.requests)] == [6, 2]


def test_what_left_the_snapshot_gets_nothing_and_its_idle_connections_are_closed(
    balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a, b = endpoint(name="a"), endpoint(name="b")
    lb = balancer(a, b)
    client = lb.client()
    assert {client.get().body for _ in range(2)} == {b"a", b"b"}
    lb.publish(a.value)
    assert {client.get().body for _ in range(4)} == {b"a"}
    assert len(b.requests) == 1
    b.wait_for_end(0)
    assert a.open_connections == 1


def test_upstream_connections_are_reused(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    lb = balancer(a)
    client = lb.client()
    for _ in range(20):
        assert client.get().status == 200
    assert len(a.connections) == 1
    assert len(a.requests) == 20
    assert lb.endpoint_counter(a.value, metrics.CONNECTS) == 1
    assert lb.endpoint_counter(a.value, metrics.REUSES) == 19


@pytest.mark.parametrize(
    "answer",
    [
        respond_and_close(response(b"x", "Connection: close")),
        respond_and_close(response(b"x").replace(b"HTTP/1.1", b"HTTP/1.0")),
    ],
    ids=["close", "http-1.0"],
)
def test_what_the_endpoint_closes_is_not_reused(answer: object, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint(default=answer)
    client = balancer(a).client()
    for _ in range(3):
        message = client.get()
        assert (message.status, message.body) == (200, b"x")
        assert message.get(b"connection") is None, "the client keeps its connection"
    assert len(a.connections) == 3
    assert len(a.requests) == 3


def test_idle_connections_above_the_limit_are_closed(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    lb = balancer(a, max_idle_per_endpoint=2)
    clients = [lb.client() for _ in range(5)]
    gate = threading.Event()
    a.default = respond_when(gate, response())
    for client in clients:
        client.send(request())
    a.wait_for_requests(5)
    gate.set()
    for client in clients:
        assert client.read_response().status == 200
    lb.wait_until_idle()
    assert len(a.connections) == 5
    assert lb.idle(a.value) == 2
