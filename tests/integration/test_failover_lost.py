"""The connection died before the first response byte: who may be tried again, and how often an endpoint sees it."""

from __future__ import annotations

import json
import threading

import pytest

from lb import metrics
from tests.fakes import Message, chunked, eventually, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import (
    Action,
    Connection,
    Endpoint,
    close,
    reset,
    respond,
    respond_and_close,
    respond_and_reset,
    response,
)

OK = respond(response())
IDEMPOTENT = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"]
OTHERS = ["POST", "PATCH", "FROBNICATE"]
BODY = b"0123456789" * 10

DEATHS = {
    "fin": close,
    "rst": reset,
    # Nothing of a head that is not complete goes downstream.
    "half a head": respond_and_close(b"HTTP/1.1 200 OK\r\nContent-Le"),
}


def reason(message: Message) -> object:
    return json.loads(message.body)["reason"]


def make(method: str) -> bytes:
    return request(method, body=BODY if method in ("POST", "PUT", "PATCH") else None)


def deliveries(*endpoints: Endpoint) -> int:
    return sum(len(e.requests) for e in endpoints)


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("method", IDEMPOTENT)
def test_fresh_connection_idempotent_goes_on(
    method: str, death: str, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a, b = endpoint(default=DEATHS[death]), endpoint()
    lb = balancer(a, b)
    client = lb.client()
    for _ in range(2):  # one of them comes to a first
        assert client.exchange(make(method)).status == 200
    assert [len(a.requests), len(b.requests)] == [1, 2]
    assert a.requests[0].raw_head.replace(str(a.port).encode(), b"") in [
        m.raw_head.replace(str(b.port).encode(), b"") for m in b.requests
    ], "the same request, with the same id"
    assert a.requests[0].body in [m.body for m in b.requests]
    assert lb.ends() == {"ok": 2}


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("method", OTHERS)
def test_fresh_connection_others_are_delivered_once(
    method: str, death: str, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a, b = endpoint(DEATHS[death]), endpoint(DEATHS[death])
    lb = balancer(a, b)
    client = lb.client()
    message = client.exchange(make(method))
    assert (message.status, reason(message)) == (502, "reset_before_head")
    assert deliveries(a, b) == 1
    assert message.get(b"retry-after") is None
    assert client.get().status in (200, 502), "the client's connection goes on"
    assert deliveries(a, b) <= 3


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("method", IDEMPOTENT)
def test_reused_connection_idempotent_goes_on(
    method: str, death: str, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a = endpoint(OK, DEATHS[death])
    lb = balancer(a)
    client = lb.client()
    assert client.get().status == 200
    assert client.exchange(make(method)).status == 200
    # The only endpoint is tried again, but on a new connection.
    assert len(a.requests) == 3
    assert [c.requests for c in a.connections] == [2, 1]
    assert lb.endpoint_counter(a.value, metrics.RETRIES) == 1


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("method", OTHERS)
def test_reused_connection_others_are_delivered_once(
    method: str, death: str, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a = endpoint(OK, DEATHS[death])
    lb = balancer(a)
    client = lb.client()
    assert client.get().status == 200
    message = client.exchange(make(method))
    assert (message.status, reason(message)) == (502, "reset_before_head")
    assert [m.method for m in a.requests] == [b"GET", method.encode()]
    assert len(a.connections) == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_connection_that_died_while_it_idled_is_not_used(
    how: str, method: str, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    gate = threading.Event()

    def answer_and_die(connection: Connection, message: Message) -> None:
        connection.send(response())
        assert gate.wait(5)
        connection.close() if how == "fin" else connection.reset()

    a = endpoint(answer_and_die)
    lb = balancer(a)
    client = lb.client()
    assert client.get().status == 200
    eventually(lambda: lb.idle(a.value) == 1, "idling")
    gate.set()
    eventually(lambda: lb.idle(a.value) == 0, "the end of the idle connection")
    assert client.exchange(make(method)).status == 200
    assert len(a.requests) == 2
    assert [c.requests for c in a.connections] == [1, 1]
    assert lb.endpoint_counter(a.value, metrics.RETRIES) == 0


def test_a_further_attempt_takes_a_new_connection(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Where one idle connection died without a word, others will have: they are not tried one after the other."""
    gate = threading.Event()

    def one_answer_each(connection: Connection) -> None:
        if connection.read_request() is not None:
            assert gate.wait(5)
            connection.send(response())
            if connection.read_request() is not None:
                connection.close()

    a = endpoint(script=one_answer_each)
    lb = balancer(a)
    clients = [lb.client() for _ in range(4)]
    for client in clients:
        client.send(request())
    a.wait_for_requests(4)
    gate.set()
    for client in clients:
        assert client.read_response().status == 200
    eventually(lambda: lb.idle(a.value) == 4, "idling")
    assert clients[0].get().status == 200
    assert len(a.connections) == 5
    assert len(a.requests) == 6
    assert lb.endpoint_counter(a.value, metrics.RETRIES) == 1


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_retries_are_counted(retries: int, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    endpoints = [endpoint(default=close) for _ in range(4)]
    message = balancer(*endpoints, retries=retries).client().get()
    assert (message.status, reason(message)) == (502, "reset_before_head")
    assert deliveries(*endpoints) == retries + 1
    assert max(len(e.requests) for e in endpoints) == 1, "each of them another endpoint"


def test_when_every_endpoint_closes_it_ends_with_the_retries(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    endpoints = [endpoint(default=close) for _ in range(2)]
    message = balancer(*endpoints, retries=3, endpoint_wait=60).client().get()
    assert (message.status, reason(message)) == (502, "reset_before_head")
    assert [len(e.requests) for e in endpoints] == [2, 2]


@pytest.mark.parametrize("retries", [0, 1])
def test_an_endpoint_that_was_killed_and_is_back_answers(
    retries: int, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """Its only endpoint dies with the request in its hands and returns: the request is worth a wait."""

    def die(connection: Connection, message: Message) -> None:
        a.down()
        connection.reset()

    a = endpoint(die)
    lb = balancer(a, retries=retries)
    client = lb.client()
    client.send(request())
    if retries:
        eventually(lambda: len(lb.service.waiting) == 1, "waiting for it")
        a.up()
        assert client.read_response().status == 200
        assert len(a.requests) == 2
    else:
        assert client.read_response().status == 502
        assert len(a.requests) == 1


@pytest.mark.parametrize(("retry_on", "status"), [((), 502), (("connect",), 502), (("reset",), 200)])
def test_retry_on_says_whether(
    retry_on: tuple[str, ...], status: int, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a, b = endpoint(default=close), endpoint()
    client = balancer(a, b, retry_on=retry_on).client()
    assert sorted(client.get().status for _ in range(2)) == [200, status]
    assert len(a.requests) == 1


@pytest.mark.parametrize(("extra", "status"), [(0, 200), (1, 502)])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_is_replayed_up_to_the_limit(
    framing: str, extra: int, status: int, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    # What is held is the body as it is sent, with its chunk framing: "3e8 CRLF … CRLF 0 CRLF CRLF".
    limit = 1000 if framing == "length" else 1000 + 5 + 2 + 5
    body = b"x" * (1000 + extra)
    a, b = endpoint(default=close), endpoint()
    client = balancer(a, b, retry_body_limit=limit).client()
    raw = (
        request("PUT", body=body)
        if framing == "length"
        else request("PUT", "/", "Transfer-Encoding: chunked") + chunked(body)
    )
    # One of the two comes to the endpoint that closes first.
    assert sorted(client.exchange(raw).status for _ in range(2)) == [200, status]
    assert [m.body for m in a.requests] == [body]
    assert [m.body for m in b.requests] == [body] * (2 if status == 200 else 1)


def test_a_large_body_is_not_replayed(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a, b = endpoint(default=close), endpoint(default=close)
    message = balancer(a, b).client().exchange(request("PUT", body=b"x" * 200_000))
    assert (message.status, reason(message)) == (502, "reset_before_head")
    assert deliveries(a, b) == 1


def test_a_body_that_is_still_coming_goes_on_to_the_next(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    def die_in_the_body(connection: Connection) -> None:
        if connection.read_head() is not None:
            assert connection.stream.take(10) == BODY[:10]
            connection.reset()

    a, b = endpoint(script=die_in_the_body), endpoint()
    client = balancer(a, b).client()
    raw = request("PUT", body=BODY)
    cut = len(raw) - len(BODY) + 10
    for _ in range(2):  # one of them comes to a first
        before = len(a.heads)
        client.send(raw[:cut])
        eventually(lambda: len(a.heads) + len(b.heads) > 0, "the head at an endpoint")
        if len(a.heads) > before:
            eventually(lambda: len(b.heads) == len(a.connections) + len(b.requests), "the head at the next endpoint")
        client.send(raw[cut:])
        assert client.read_response().status == 200
    assert len(a.heads) == 1
    assert [m.body for m in b.requests] == [BODY, BODY]


HEAD = b"HTTP/1.1 200 OK\r\n"
TRUNCATIONS = {
    "length, fin": respond_and_close(HEAD + b"Content-Length: 10\r\n\r\n12345"),
    "length, nothing": respond_and_close(HEAD + b"Content-Length: 10\r\n\r\n"),
    "chunked, fin": respond_and_close(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"),
    "chunked, in a chunk": respond_and_close(HEAD + b"Transfer-Encoding: chunked\r\n\r\na\r\n12345"),
    "chunked, in the trailers": respond_and_close(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n"),
}


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("name", TRUNCATIONS)
def test_after_the_first_byte_the_client_sees_the_truncation(
    name: str, version: str, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    endpoints = [endpoint(default=TRUNCATIONS[name]) for _ in range(2)]
    lb = balancer(*endpoints)
    client = lb.client()
    client.send(request().replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
    # Whatever framing the client reads, a clean end would be a lie to some reader.
    with pytest.raises(ConnectionResetError):
        client.read_response()
    assert deliveries(*endpoints) == 1
    assert lb.ends() == {"reset_in_body": 1}
    assert sum(lb.endpoint_counter(e.value, metrics.RESETS) for e in endpoints) == 1


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_close_delimited_body_that_is_reset_is_truncated(
    version: str, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    seen = threading.Event()
    a = endpoint(respond_and_reset(HEAD + b"\r\n12345", after=seen))
    lb = balancer(a)
    client = lb.client()
    client.send(request().replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
    assert client.stream.take_through(b"12345").startswith(HEAD)
    seen.set()
    with pytest.raises(ConnectionResetError):
        client.stream.take_to_end()
    assert lb.ends() == {"reset_in_body": 1}
    assert len(a.requests) == 1


def test_a_truncation_ends_the_pipeline(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    action: Action = TRUNCATIONS["length, fin"]
    a = endpoint(action)
    lb = balancer(a)
    client = lb.client()
    client.send(request() * 3)
    with pytest.raises(ConnectionResetError):
        client.read_response()
    assert len(a.requests) == 1
    assert lb.ends() == {"reset_in_body": 1}
