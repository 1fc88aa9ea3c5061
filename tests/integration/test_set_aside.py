"""An endpoint that can't be connected to gets no picks for a while; then one request tries it."""

from __future__ import annotations

import threading

import pytest

from lb import metrics
from tests.fakes import eventually, request
from tests.integration.conftest import MakeBalancer, MakeBlackHole, MakeEndpoint
from tests.integration.endpoint import respond, respond_when, response
from tests.integration.harness import Balancer, Variant, often
from tests.integration.load import load
from tests.integration.ports import BlackHole
from tests.integration.processes import Backend

pytestmark = pytest.mark.any_parser


linux_only = pytest.mark.skipif(not BlackHole.is_possible, reason="needs a queue that is known to be full")


def failures(lb: Balancer, endpoint: object) -> int:
    return lb.endpoint_counter(endpoint.value, metrics.CONNECT_FAILURES)  # type: ignore[attr-defined]


def picks(lb: Balancer, endpoint: object) -> int:
    return lb.endpoint_counter(endpoint.value, metrics.PICKS)  # type: ignore[attr-defined]


@pytest.mark.parametrize("concurrency", [1, 64])
def test_two_endpoints_one_dead(concurrency: int, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    live, dead = endpoint(), endpoint(is_up=False)
    lb = balancer(live, dead)
    outcome = load(lb.port, request(), connections=concurrency, requests=640)
    assert outcome.errors == []
    assert outcome.statuses == {200: 640}
    assert len(live.requests) == 640
    # Those that were connecting when the first one failed fail too; after that there is a second of peace.
    assert 1 <= failures(lb, dead) <= concurrency + 2
    assert lb.ends() == {"ok": 640}


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("concurrency", [1, 64, 1000])
def test_ten_thousand_requests_over_two_endpoints_one_dead(
    concurrency: int, variant: Variant, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    count = often(10_000, variant)
    dead = endpoint(is_up=False)
    with Backend() as live:
        lb = balancer(live.value, dead)
        outcome = load(lb.port, request(), connections=concurrency, requests=count)
        assert outcome.errors == []
        assert outcome.statuses == {200: count}
        assert failures(lb, dead) >= 1
        assert lb.ends() == {"ok": count}
        again = {
            name: lb.endpoint_counter(live.value, getattr(metrics, name)) for name in ("RESETS", "RETRIES", "CONNECTS")
        }
        assert live.requests_served() == count, again


def test_one_dead_then_back(quick_set_aside: float, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a, b = endpoint(name="a"), endpoint(name="b", is_up=False)
    lb = balancer(a, b)
    client = lb.client()
    assert [client.get().body for _ in range(4)] == [b"a"] * 4
    assert lb.state(b.value)[0] == "set aside"
    b.up()
    eventually(lambda: client.get().body == b"b", "the return of b")
    assert lb.state(b.value)[0] == "available"
    assert failures(lb, b) >= 1
    before = len(a.requests), len(b.requests)
    assert {client.get().body for _ in range(4)} == {b"a", b"b"}
    assert (len(a.requests) - before[0], len(b.requests) - before[1]) == (2, 2)


@pytest.mark.one_variant
def test_the_time_doubles_and_starts_anew(
    quick_set_aside: float, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a, b = endpoint(name="a"), endpoint(name="b", is_up=False)
    lb = balancer(a, b)
    client = lb.client()
    longest = []
    for count in (1, 2, 3):
        eventually(lambda: client.get().body == b"a" and failures(lb, b) == count, f"failure {count}")  # noqa: B023
        longest.append(lb.state(b.value)[1])
    # Looked at a moment later each: what is left of 0.2, 0.4 and 0.8 s.
    for seconds, least, most in zip(longest, (0.0, 0.2, 0.4), (0.2, 0.4, 0.8), strict=True):
        assert least < seconds <= most + 1e-6
    b.up()
    eventually(lambda: client.get().body == b"b", "the return of b")
    b.down()
    eventually(lambda: lb.idle(b.value) == 0, "the end of the idle connections")
    eventually(lambda: client.get().body == b"a" and failures(lb, b) == 4, "failure 4")
    # A hair more than 0.2: the difference of two floats is rounded.
    assert lb.state(b.value)[1] <= 0.2 + 1e-6


@pytest.mark.one_variant
def test_one_request_tries_it_and_the_others_pass_it_over(
    quick_set_aside: float,
    balancer: MakeBalancer,
    endpoint: MakeEndpoint,
    black_hole: MakeBlackHole,
) -> None:
    hole, live = black_hole(), endpoint()
    lb = balancer(hole, live, connect_timeout=0.3)
    raw = request("POST", body=b"x")
    client = lb.client()
    assert [client.exchange(raw).status for _ in range(2)] == [200, 200]
    assert (picks(lb, hole), failures(lb, hole)) == (1, 1)
    eventually(lambda: not lb.call(lb.service.set_aside.out, lb.server.proxy.clock()), "the end of the set-aside")
    # Both endpoints are in rotation: of these one meets the hole and hangs there.
    clients = [lb.client() for _ in range(8)]
    for each in clients:
        each.send(raw)
    eventually(lambda: lb.state(hole.value)[0] == "on trial", "the trial")
    eventually(lambda: len(live.requests) == 2 + 7, "the answers to all others")
    assert picks(lb, hole) == 2
    for each in clients:
        assert each.read_response().status == 200
    assert (picks(lb, hole), failures(lb, hole)) == (2, 2), "the trial failed, and went on to the other"
    assert lb.state(hole.value)[1] > 0.2, "for longer this time"
    assert len(live.requests) == 2 + 8


@pytest.mark.one_variant
def test_a_client_that_leaves_during_the_trial_leaves_it_to_another(
    quick_set_aside: float, balancer: MakeBalancer, endpoint: MakeEndpoint, black_hole: MakeBlackHole
) -> None:
    hole, live = black_hole(is_up=False), endpoint()
    lb = balancer(hole, live, connect_timeout=5.0)
    client = lb.client()
    assert [client.get().status for _ in range(2)] == [200, 200]
    assert failures(lb, hole) == 1
    hole.up()
    eventually(lambda: not lb.call(lb.service.set_aside.out, lb.server.proxy.clock()), "the end of the set-aside")
    for trial in (1, 2):
        pair = [lb.client(), lb.client()]
        for each in pair:
            each.send(request())
        eventually(lambda: lb.state(hole.value)[0] == "on trial", "the trial")
        assert picks(lb, hole) == 1 + trial
        for each in pair:
            each.reset()
        eventually(lambda: lb.counter(metrics.CONNECTIONS_OPEN) == 1, "leaving")
        # Nobody has found out anything.
        assert lb.state(hole.value) == ("set aside", 0.0)
    assert failures(lb, hole) == 1


def test_it_ends_early_when_the_endpoint_turns_ready(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a, b = endpoint(name="a"), endpoint(name="b", is_up=False)
    lb = balancer(a, b)
    client = lb.client()
    assert [client.get().body for _ in range(2)] == [b"a", b"a"]
    assert lb.state(b.value)[0] == "set aside"
    b.up()
    lb.publish(a.value, b.value)
    assert lb.state(b.value)[0] == "set aside", "it was ready before"
    lb.publish(a.value, b.value._replace(ready=False))
    assert {client.get().body for _ in range(2)} == {b"a"}
    lb.publish(a.value, b.value)
    assert lb.state(b.value)[0] == "available"
    assert {client.get().body for _ in range(2)} == {b"a", b"b"}
    assert failures(lb, b) == 1


def test_connections_in_use_outlive_a_set_aside(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    gate = threading.Event()
    ok, late = respond(response()), respond_when(gate, response())
    a = endpoint(late, late, ok, late, late)
    lb = balancer(a, endpoint_wait=0)
    clients = [lb.client() for _ in range(3)]

    def two_at_a_time() -> None:
        for each in clients[:2]:
            each.send(request())

    def answered() -> None:
        gate.set()
        for each in clients[:2]:
            assert each.read_response().status == 200
        gate.clear()

    two_at_a_time()
    a.wait_for_requests(2)
    answered()
    eventually(lambda: lb.idle(a.value) == 2, "idling")
    # It stops listening, but the connections that are there go on: who uses one does not notice.
    a.stop_listening()
    assert clients[0].get().status == 200
    two_at_a_time()
    a.wait_for_requests(5)
    # A third at the same time needs a new connection, which is refused: there is nothing else to try.
    assert clients[2].get().status == 503
    assert lb.state(a.value)[0] == "set aside"
    answered()
    lb.wait_until_idle()
    assert lb.idle(a.value) == 2


def test_an_idle_connection_does_not_make_the_trial(
    quick_set_aside: float, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """The endpoint is back although the first request after its set-aside takes a connection that outlived it."""
    gate = threading.Event()
    a = endpoint(respond_when(gate, response(b"a")), name="a")
    b = endpoint(name="b")
    lb = balancer(a, b)
    client, other = lb.client(), lb.client()
    client.send(request())
    eventually(lambda: len(a.requests) + len(b.requests) == 1, "the first request")
    if b.requests:
        assert client.read_response().body == b"b"
        client.send(request())
        a.wait_for_requests(1)
    a.stop_listening()
    eventually(lambda: other.get().body == b"b" and lb.state(a.value)[0] == "set aside", "the set-aside")
    gate.set()
    assert client.read_response().body == b"a"
    eventually(lambda: lb.idle(a.value) == 1, "idling")
    a.up()
    eventually(lambda: other.get().body == b"a", "the return of a")
    assert [other.get().body for _ in range(4)].count(b"a") == 2
    assert lb.state(a.value)[0] == "available"


@linux_only
def test_idle_connections_are_closed_when_their_endpoint_is_set_aside(
    balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """Whoever tries the endpoint next must see whether anybody is there."""
    gate = threading.Event()
    a = endpoint(respond_when(gate, response()))
    lb = balancer(a, connect_timeout=0.4, endpoint_wait=0)
    first, second = lb.client(), lb.client()
    first.send(request())
    a.wait_for_requests(1)
    a.swallow()
    second.send(request())
    eventually(lambda: picks(lb, a) == 2, "the second pick")
    gate.set()
    assert first.read_response().status == 200
    eventually(lambda: lb.idle(a.value) == 1, "idling")
    assert second.read_response().status == 503
    assert lb.state(a.value)[0] == "set aside"
    assert a.wait_for_end(0) == "fin"
    assert lb.idle(a.value) == 0
