"""Time-outs: that they end what they should, with what the client is told, and end nothing else."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress

import pytest

from lb import metrics
from tests.fakes import DEADLINE, Client, Message, chunked, eventually, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection, never, respond_when, response

pytestmark = pytest.mark.any_parser

SHORT = 0.2
# A deadline is noticed up to 0.1 s late; this is for a machine that is busy.
LATE = 1.5


class Timer:
    """Asserts that what happens inside took from `least` to `least` + LATE seconds."""

    def __init__(self, least: float = SHORT) -> None:
        self._least = least

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, *failure: object) -> None:
        seconds = time.monotonic() - self._started
        if failure[0] is None:
            assert self._least <= seconds < self._least + LATE


def reason(message: Message) -> object:
    return json.loads(message.body)["reason"]


def test_a_client_that_says_nothing_is_let_go_without_a_word(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    lb = balancer(endpoint(), request_head_timeout=SHORT)
    with Timer():
        client = lb.client()
        assert client.how_closed() == "fin"
    assert lb.ends() == {}


@pytest.mark.parametrize("is_first", [True, False])
def test_a_head_that_does_not_end(is_first: bool, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    lb = balancer(a, request_head_timeout=SHORT)
    client = lb.client()
    if not is_first:
        assert client.get().status == 200
    with Timer(SHORT - 0.05):
        client.send(request()[:-2])
        message = client.read_response()
    assert (message.status, reason(message)) == (408, "request_timeout")
    assert message.get(b"connection") == b"close"
    assert client.how_closed() == "fin"
    assert len(a.heads) == (0 if is_first else 1)


@pytest.mark.one_variant
def test_a_head_that_drips_is_not_given_more_time(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    lb = balancer(endpoint(), request_head_timeout=SHORT)
    client = lb.client()
    stop = threading.Event()

    def drip() -> None:
        try:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\nA: ")
            while not stop.wait(0.02):
                client.send(b"b")
        except OSError:
            pass  # it was let go

    dripping = threading.Thread(target=drip)
    with Timer(SHORT - 0.05):
        dripping.start()
        assert client.read_response().status == 408
    stop.set()
    dripping.join()


def test_a_connection_that_idles(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    lb = balancer(endpoint(), idle_timeout=SHORT)
    client = lb.client()
    assert client.get().status == 200
    with Timer(SHORT - 0.05):
        assert client.how_closed() == "fin"
    assert lb.ends() == {"ok": 1}


@pytest.mark.one_variant
def test_the_time_between_requests_starts_anew(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    lb = balancer(endpoint(), idle_timeout=2 * SHORT)
    client = lb.client()
    ticks = threading.Event()
    for _ in range(3):
        assert client.get().status == 200
        assert not ticks.wait(SHORT)  # three of them are longer than the time-out
    with Timer(SHORT):
        assert client.how_closed() == "fin"


@pytest.mark.one_variant
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_endpoint_that_does_not_answer(method: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a, b = endpoint(never), endpoint(never)
    lb = balancer(a, b, response_timeout=SHORT)
    client = lb.client()
    with Timer():
        message = client.exchange(request(method, body=b"abc" if method == "POST" else None))
    assert (message.status, reason(message)) == (504, "response_timeout")
    assert message.get(b"proxy-status") == b'podlb; error=http_response_timeout; details="response_timeout"'
    assert len(a.requests) + len(b.requests) == 1, "a time-out is not tried again"
    (slow,) = [e for e in (a, b) if e.requests]
    assert slow.wait_for_end(0) in ("fin", "reset")
    assert message.get(b"connection") is None
    assert client.get().status in (200, 504)


@pytest.mark.one_variant
def test_the_time_for_a_response_counts_from_the_end_of_the_request(
    balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a = endpoint()
    lb = balancer(a, response_timeout=SHORT)
    client = lb.client()
    ticks = threading.Event()
    client.send(request("POST", "/", "Content-Length: 4"))
    for _ in range(4):
        assert not ticks.wait(SHORT / 2)
        client.send(b"x")
    assert client.read_response().status == 200
    assert a.requests[0].body == b"xxxx"


@pytest.mark.one_variant
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_request_body_without_progress(framing: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    lb = balancer(a, body_idle_timeout=SHORT)
    client = lb.client()
    if framing == "length":
        client.send(request("POST", "/", "Content-Length: 10") + b"abc")
    else:
        client.send(request("POST", "/", "Transfer-Encoding: chunked") + chunked(b"abc")[:-5])
    with Timer(SHORT - 0.05):
        message = client.read_response()
    assert (message.status, reason(message)) == (408, "body_timeout")
    assert message.get(b"connection") == b"close"
    assert client.how_closed() == "fin"
    assert a.wait_for_end(0) in ("fin", "reset")
    assert a.requests == []


def test_a_response_body_without_progress(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    def answer(connection: Connection, message: Message) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")
        never(connection, message)

    a = endpoint(answer)
    lb = balancer(a, body_idle_timeout=SHORT)
    client = lb.client()
    with Timer(), pytest.raises(ConnectionResetError):
        client.get()
    assert a.wait_for_end(0) in ("fin", "reset")
    assert lb.ends() == {"body_timeout": 1}


@pytest.mark.one_variant
def test_a_response_body_that_drips(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    ticks = threading.Event()

    def answer(connection: Connection, message: Message) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        for _ in range(5):
            assert not ticks.wait(SHORT / 2)
            connection.send(b"x")

    lb = balancer(endpoint(answer), body_idle_timeout=SHORT * 1.5)
    assert lb.client().get().body == b"xxxxx"


def test_a_reader_that_stands_still(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    def answer(connection: Connection, message: Message) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(100):
            connection.send(b"x" * 1_000_000)
        raise AssertionError("100 MB for a client that reads nothing")

    a = endpoint(answer)
    lb = balancer(a, body_idle_timeout=SHORT)
    client = lb.client(receive_buffer=4096)
    with Timer():
        client.send(request())
        assert a.wait_for_end(0) in ("fin", "reset")
    assert lb.ends() == {"body_timeout": 1}
    eventually(lambda: lb.counter(metrics.CONNECTIONS_OPEN) == 0, "the end of the client's connection")


def test_a_complete_response_that_nobody_reads(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    body = b"x" * 300_000
    a = endpoint(default=lambda connection, message: connection.send(response(body)))
    lb = balancer(a, body_idle_timeout=SHORT, idle_timeout=SHORT)
    client = lb.client(receive_buffer=4096)
    client.send(request() * 50)  # more than the kernel's buffers hold
    eventually(lambda: lb.counter(metrics.CONNECTIONS_OPEN) == 0, "the end of the client's connection")
    lb.wait_until_idle()
    assert len(a.requests) < 50


@pytest.mark.one_variant
def test_idle_connections_to_an_endpoint_are_closed_in_time(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    lb = balancer(a, upstream_idle_timeout=SHORT)
    client = lb.client()
    assert client.get().status == 200
    started = time.monotonic()
    assert a.wait_for_end(0) == "fin"
    # The pool is swept twice a second.
    assert SHORT - 0.05 <= time.monotonic() - started < SHORT + 0.5 + LATE
    assert client.get().status == 200
    assert [c.requests for c in a.connections] == [1, 1]


@pytest.mark.one_variant
def test_a_connection_that_idled_too_long_is_not_used_even_before_it_is_swept(
    balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a = endpoint()
    lb = balancer(a, upstream_idle_timeout=0.05)
    client = lb.client()
    assert client.get().status == 200
    ticks = threading.Event()
    assert not ticks.wait(0.06)
    assert client.exchange(request("POST", body=b"abc")).status == 200
    assert [c.requests for c in a.connections] == [1, 1]


@pytest.mark.one_variant
def test_a_long_answer_is_not_idle(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    gate = threading.Event()
    a = endpoint(respond_when(gate, response()))
    lb = balancer(a, idle_timeout=0.1, request_head_timeout=0.1, upstream_idle_timeout=0.1, body_idle_timeout=0.1)
    client = lb.client()
    client.send(request())
    a.wait_for_requests(1)
    assert not threading.Event().wait(0.3)
    assert client.is_silent()
    gate.set()
    assert client.read_response().status == 200


def test_an_injected_clock_moves_the_time_outs(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Nothing reads another clock: with one that is an hour ahead after the first request, all has expired."""
    hours = [0.0]
    a = endpoint()
    lb = balancer(a, clock=lambda: time.monotonic() + 3600 * hours[0], idle_timeout=DEADLINE * 2)
    client = lb.client()
    assert client.get().status == 200
    hours[0] = 1.0
    assert client.get().status == 200, "it had asked in time, as far as anybody noticed"
    assert [c.requests for c in a.connections] == [1, 1], "the idle connection to the endpoint had expired"


def test_an_endpoint_that_does_not_take_the_body(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """It is the endpoint that stands still, and the client is told so."""
    done = threading.Event()

    def stand_still(connection: Connection) -> None:
        assert connection.read_head() is not None
        assert done.wait(DEADLINE)
        connection.is_closed = True

    lb = balancer(endpoint(script=stand_still, receive_buffer=4096), body_idle_timeout=SHORT)
    client = lb.client()
    client.send(request("POST", "/", "Content-Length: 30000000"))
    sender = threading.Thread(target=lambda: _send_all(client, 30_000_000))
    sender.start()
    try:
        message = client.read_response("POST")
        assert (message.status, reason(message)) == (504, "body_timeout")
        assert b"error=connection_write_timeout" in (message.get(b"proxy-status") or b"")
    finally:
        done.set()
        client.close()
        sender.join(DEADLINE)


def _send_all(client: Client, size: int) -> None:
    with suppress(OSError):
        client.send(b"x" * size)
