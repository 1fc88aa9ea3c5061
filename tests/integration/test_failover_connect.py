"""Nothing was sent: any method goes on to the next endpoint, and a request that has tried all waits."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from lb import metrics
from lb.endpoint import make_endpoint
from lb.health import set_aside
from lb.upstream import Upstream
from tests.fakes import Message, chunked, eventually, request
from tests.integration.conftest import MakeBalancer, MakeBlackHole, MakeEndpoint
from tests.integration.endpoint import Endpoint
from tests.integration.ports import BlackHole

pytestmark = pytest.mark.any_parser

BODY = bytes(range(256)) * 4
LARGE = BODY * 400  # 400 KiB: more than any buffer holds back


def dead(endpoint: MakeEndpoint, count: int = 1) -> list[Endpoint]:
    return [endpoint(is_up=False, name=f"dead{i}") for i in range(count)]


def reason(message: Message) -> object:
    return json.loads(message.body)["reason"]


def failures(lb: object, *endpoints: Endpoint | BlackHole) -> list[int]:
    return [lb.endpoint_counter(e.value, metrics.CONNECT_FAILURES) for e in endpoints]  # type: ignore[attr-defined]


REQUESTS = {
    "get": (request(), b""),
    "head": (request("HEAD"), b""),
    "delete": (request("DELETE"), b""),
    "post": (request("POST", body=BODY), BODY),
    "post-empty": (request("POST", body=b""), b""),
    "post-large": (request("POST", body=LARGE), LARGE),
    "post-chunked": (request("POST", "/", "Transfer-Encoding: chunked") + chunked(BODY, BODY, b"x"), BODY * 2 + b"x"),
    "patch": (request("PATCH", body=BODY), BODY),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_any_method_goes_on_after_a_refused_connect(name: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    raw, body = REQUESTS[name]
    live = endpoint()
    off = dead(endpoint, 3)
    # More failed connects than retries are allowed: they don't count.
    lb = balancer(*off, live, retries=0)
    assert lb.client().exchange(raw).status == 200
    assert [m.body for m in live.requests] == [body]
    assert live.requests[0].raw_head.startswith(raw[: raw.index(b"\r\n")])
    assert len(live.heads) == len(live.connections) == 1
    assert sum(failures(lb, *off)) <= 3
    assert lb.ends() == {"ok": 1}


def test_every_method_is_tried_on_all_before_it_gives_up(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    off = dead(endpoint, 3)
    lb = balancer(*off, endpoint_wait=0)
    message = lb.client().exchange(request("POST", body=BODY))
    assert (message.status, reason(message)) == (503, "connect_refused")
    assert message.get(b"retry-after") == b"1"
    assert message.get(b"proxy-status") == b'podlb; error=connection_refused; details="connect_refused"'
    assert failures(lb, *off) == [1, 1, 1], "each once"


def test_without_connect_in_retry_on_there_is_one_attempt(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    off = dead(endpoint, 3)
    lb = balancer(*off, retry_on=("reset",))
    assert lb.client().get().status == 503
    assert sum(failures(lb, *off)) == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_connect_that_is_swallowed_times_out(
    method: str, balancer: MakeBalancer, endpoint: MakeEndpoint, black_hole: MakeBlackHole
) -> None:
    live, hole = endpoint(), black_hole()
    lb = balancer(hole, live, connect_timeout=0.15)
    client = lb.client()
    body = BODY if method == "POST" else None
    started = time.monotonic()
    for _ in range(2):
        assert client.exchange(request(method, body=body)).status == 200
    assert 0.15 <= time.monotonic() - started < 0.7
    assert failures(lb, hole) == [1]
    assert lb.state(hole.value)[0] == "set aside"
    assert [m.body for m in live.requests] == [body or b""] * 2


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_connect_that_was_done_in_time_is_not_taken_back(
    method: str, balancer: MakeBalancer, endpoint: MakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the loop is busy before the connect's task hears of it: the request is on its way by then."""
    made = Upstream.connection_made
    stalls = []

    def connection_made(self: Upstream, transport: asyncio.BaseTransport) -> None:
        made(self, transport)
        time.sleep(0.3)
        stalls.append(self)

    monkeypatch.setattr(Upstream, "connection_made", connection_made)
    one = endpoint()
    lb = balancer(one, connect_timeout=0.1)
    assert lb.client().exchange(request(method, body=BODY if method == "POST" else None)).status == 200
    assert len(one.requests) == len(stalls) == 1
    assert failures(lb, one) == [0]


@pytest.mark.one_variant
def test_no_attempt_starts_after_endpoint_wait_and_a_connect_timeout(
    balancer: MakeBalancer, black_hole: MakeBlackHole
) -> None:
    holes = [black_hole() for _ in range(8)]
    lb = balancer(*holes, connect_timeout=0.2, endpoint_wait=0.3)
    started = time.monotonic()
    message = lb.client().get()
    # They start at 0, 0.2, 0.4; the one that would start at 0.6 is too late.
    assert time.monotonic() - started < 1.0
    assert (message.status, reason(message)) == (503, "connect_timeout")
    assert 2 <= sum(lb.endpoint_counter(h.value, metrics.PICKS) for h in holes) <= 3


def test_those_set_aside_are_tried_soonest_first(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    endpoints = [endpoint(name=name) for name in "abc"]
    lb = balancer(*endpoints, endpoint_wait=0)
    client = lb.client()
    by_name = {e.name: e for e in endpoints}
    order = [client.get().body.decode() for _ in range(3)]
    for e in endpoints:
        e.down()
    eventually(lambda: not any(lb.idle(e.value) for e in endpoints), "the end of the idle connections")
    assert client.get().status == 503
    # They were set aside in this order; the second and third are there again, the first is not.
    by_name[order[1]].up()
    by_name[order[2]].up()
    answer = client.exchange(request("POST", body=BODY))
    assert (answer.status, answer.body.decode()) == (200, order[1])
    assert failures(lb, by_name[order[0]]) == [2], "the first was tried first"
    assert failures(lb, by_name[order[1]], by_name[order[2]]) == [1, 1]
    assert lb.state(by_name[order[1]].value)[0] == "available"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_waiting_request_is_answered_when_a_dead_endpoint_returns(
    method: str, quick_set_aside: float, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    (off,) = dead(endpoint)
    lb = balancer(off)
    client = lb.client()
    body = BODY if method == "POST" else None
    client.send(request(method, body=body))
    eventually(lambda: len(lb.service.waiting) == 1, "waiting")
    off.up()
    assert client.read_response().status == 200
    assert [m.body for m in off.requests] == [body or b""]
    assert lb.state(off.value)[0] == "available"


@pytest.mark.parametrize("was_empty", [True, False])
def test_a_waiting_request_is_answered_by_an_endpoint_that_is_new(
    was_empty: bool, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    live = endpoint()
    off = [] if was_empty else dead(endpoint, 2)
    lb = balancer(*off)
    clients = [lb.client() for _ in range(3)]
    for client in clients:
        client.send(request("POST", body=BODY))
    eventually(lambda: len(lb.service.waiting) == 3, "waiting")
    assert all(client.is_silent() for client in clients)
    lb.publish(*(e.value for e in off), live.value)
    for client in clients:
        assert client.read_response().status == 200
    assert [m.body for m in live.requests] == [BODY] * 3


def test_a_large_body_waits_too(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    live = endpoint()
    lb = balancer()
    client = lb.client()
    raw = request("POST", body=LARGE)
    client.socket.settimeout(0.1)
    sent = 0
    try:
        while sent < len(raw):
            sent += client.socket.send(raw[sent : sent + 65536])
    except TimeoutError:
        pass  # The balancer reads no more of it, which is right; the kernel may have taken it all, too.
    client.socket.settimeout(5)
    eventually(lambda: len(lb.service.waiting) == 1, "waiting")
    lb.publish(live.value)
    client.send(raw[sent:])
    assert client.read_response().status == 200
    assert [m.body for m in live.requests] == [LARGE]


@pytest.mark.one_variant
def test_503_with_retry_after_when_endpoint_wait_is_over(balancer: MakeBalancer) -> None:
    lb = balancer(endpoint_wait=0.2)
    client = lb.client()
    started = time.monotonic()
    message = client.get()
    assert 0.2 <= time.monotonic() - started < 1.5
    assert (message.status, reason(message)) == (503, "no_endpoint")
    assert message.get(b"retry-after") == b"1"
    assert message.get(b"connection") is None
    assert client.get().status == 503, "the connection is still of use"
    assert lb.ends() == {"no_endpoint": 2}


@pytest.mark.one_variant
def test_of_many_that_wait_the_first_connects_before_the_last_tries(
    balancer: MakeBalancer, endpoint: MakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = endpoint()
    lb = balancer()
    clients = [lb.client() for _ in range(256)]
    for client in clients:
        client.send(request())
    eventually(lambda: len(lb.service.waiting) == len(clients), "waiting")
    made = Upstream.connection_made
    still_waiting = []

    def connection_made(self: Upstream, transport: asyncio.BaseTransport) -> None:
        still_waiting.append(len(lb.service.waiting))
        made(self, transport)

    monkeypatch.setattr(Upstream, "connection_made", connection_made)
    lb.publish(one.value)
    assert {client.read_response().status for client in clients} == {200}
    assert still_waiting[0] > 0
    assert len(one.requests) == len(clients)


def test_beyond_max_waiting_there_is_503_at_once(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    live = endpoint()
    lb = balancer(max_waiting=2)
    waiting = [lb.client() for _ in range(2)]
    for client in waiting:
        client.send(request())
    eventually(lambda: len(lb.service.waiting) == 2, "waiting")
    message = lb.client().get()
    assert (message.status, reason(message)) == (503, "waiting_limit")
    assert message.get(b"retry-after") == b"1"
    lb.publish(live.value)
    for client in waiting:
        assert client.read_response().status == 200
    assert lb.ends() == {"ok": 2, "waiting_limit": 1}


def test_a_client_that_leaves_makes_room_for_another(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    live = endpoint()
    lb = balancer(max_waiting=1)
    first = lb.client()
    first.send(request())
    eventually(lambda: len(lb.service.waiting) == 1, "waiting")
    first.reset()
    eventually(lambda: len(lb.service.waiting) == 0, "leaving")
    second = lb.client()
    second.send(request())
    eventually(lambda: len(lb.service.waiting) == 1, "waiting")
    lb.publish(live.value)
    assert second.read_response().status == 200
    assert len(live.heads) == 1
    assert lb.ends() == {"client_gone": 1, "ok": 1}


def test_no_waiting_at_all(balancer: MakeBalancer) -> None:
    lb = balancer(max_waiting=0)
    client = lb.client()
    client.send(request() * 3)
    assert [reason(client.read_response()) for _ in range(3)] == ["waiting_limit"] * 3


@pytest.mark.one_variant
def test_an_address_that_cannot_be_reached_is_set_aside_too(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    live = endpoint()
    nowhere = make_endpoint("127.255.255.255", 9)  # a broadcast address: nothing can be connected to it
    lb = balancer(nowhere, live)
    client = lb.client()
    assert [client.get().status for _ in range(4)] == [200] * 4
    assert lb.endpoint_counter(nowhere, metrics.CONNECT_FAILURES) == 1
    assert lb.state(nowhere)[0] == "set aside"


def test_a_reply_of_ours_names_the_clients_request_id(balancer: MakeBalancer) -> None:
    message = balancer(endpoint_wait=0).client().get("/", "X-Request-Id: mine")
    assert message.status == 503
    assert message.get(b"x-request-id") == b"mine"
    assert json.loads(message.body)["requestId"] == "mine"


@pytest.mark.one_variant
def test_a_waiting_request_tries_whatever_returns_first(
    monkeypatch: pytest.MonkeyPatch, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    old, new = dead(endpoint, 2)
    monkeypatch.setattr(set_aside, "FIRST_SECONDS", 20.0)
    lb = balancer(old, endpoint_wait=2.0)
    client = lb.client()
    client.send(request())
    eventually(lambda: len(lb.service.waiting) == 1, "waiting")
    # One that is new, refuses, and is to return long before the first.
    monkeypatch.setattr(set_aside, "FIRST_SECONDS", 0.2)
    lb.publish(old.value, new.value)
    eventually(lambda: failures(lb, new) == [1], "the attempt at the new one")
    new.up()
    assert client.read_response().status == 200
    assert len(new.requests) == 1
