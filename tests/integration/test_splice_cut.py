"""Long bodies that do not end well, or while something else happens: the same on every loop, spliced or not."""

from __future__ import annotations

import threading
from contextlib import suppress
from itertools import count

import pytest

from lb import metrics
from tests.eventloop.splicing import Splices
from tests.fakes import DEADLINE, Message, TruncatedError, request, wait_for_standstill
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Action, Connection, response
from tests.integration.harness import Balancer, Variant
from tests.integration.long_bodies import (
    answer_by_target,
    assert_spliced,
    body_of,
    check_another,
    digest_of,
    head_of,
    read_digest,
    send_body,
)

pytestmark = pytest.mark.any_parser

SIZE = 16 << 20
PART = 4 << 20


def end_in_the_middle(how: str, go_on: threading.Event) -> Action:
    """Send a part of a long response, and end."""

    def action(connection: Connection, message: Message) -> None:
        connection.send(head_of(SIZE), body_of(PART))
        assert go_on.wait(DEADLINE)
        getattr(connection, how)()

    return action


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_an_endpoint_that_ends_in_its_response(
    how: str, version: str, variant: Variant, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """All that it sent arrives, then the client sees the truncation."""
    arrived = threading.Event()
    a = endpoint(end_in_the_middle(how, arrived), default=answer_by_target)
    lb = balancer(a)
    client = lb.client()
    client.send(f"GET /x HTTP/{version}\r\nHost: a\r\n\r\n".encode())
    client.stream.take_through(b"\r\n\r\n")
    assert client.stream.take(PART) == body_of(PART)
    arrived.set()
    assert client.how_closed() == "reset"
    check_another(lb, "reset_in_body")
    assert lb.endpoint_counter(a.value, metrics.RESETS) == 1
    assert len(a.requests) == 2, "and nobody tried it again"
    assert_spliced(splices, variant)


@pytest.mark.parametrize("how", ["reset", pytest.param("close", marks=pytest.mark.slow)])
def test_an_endpoint_that_ends_while_the_client_stands_still(
    how: str, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    gone = threading.Event()
    sent = 0

    def answer(connection: Connection, message: Message) -> None:
        nonlocal sent
        connection.socket.settimeout(0.3)
        connection.send(head_of(4 * SIZE))
        with suppress(TimeoutError):
            while True:
                sent += connection.socket.send(bytes(65536))
        getattr(connection, how)()
        gone.set()

    a = endpoint(answer, default=answer_by_target)
    lb = balancer(a)
    client = lb.client(receive_buffer=65536)
    client.send(request("GET", "/x"))
    assert gone.wait(DEADLINE)
    assert sent < 4 * SIZE
    with pytest.raises((ConnectionResetError, TruncatedError)) as caught:
        client.read_response()
    assert caught.type is ConnectionResetError, "a truncated response must not end as if it were complete"
    check_another(lb, "reset_in_body")


@pytest.mark.parametrize("reads_on", [True, False])
def test_an_early_response_in_a_long_request(
    reads_on: bool, variant: Variant, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """The client sends all before it reads, and gets it whether or not its endpoint reads on."""
    done = threading.Event()
    numbers = count()

    def script(connection: Connection) -> None:
        head = connection.read_head()
        assert head is not None
        if next(numbers):
            answer_by_target(connection, head)
            connection.wait_for_end()
            return
        connection.stream.take(PART)
        connection.send(response(b"too much", status="413 Content Too Large"))
        if reads_on:
            connection.wait_for_end()
        else:
            assert done.wait(2 * DEADLINE)
        connection.is_closed = True

    a = endpoint(script=script)
    lb = balancer(a)
    client = lb.client()
    client.send(request("POST", "/", f"Content-Length: {4 * SIZE}"))
    try:
        send_body(client.socket, 4 * SIZE)
        message = client.read_response()
        assert (message.status, message.body) == (413, b"too much")
        assert message.get(b"connection") == b"close"
        assert client.how_closed() == "fin"
        check_another_after_early(lb)
    finally:
        done.set()
    assert_spliced(splices, variant)


def check_another_after_early(lb: Balancer) -> None:
    assert lb.ends() == {"ok": 1}
    client = lb.client()
    client.send(request("GET", f"/{PART}"))
    client.stream.take_through(b"\r\n\r\n")
    assert read_digest(client.stream, PART) == digest_of(PART)
    assert lb.ends() == {"ok": 2}


@pytest.mark.parametrize("how", ["reset", pytest.param("close", marks=pytest.mark.slow)])
@pytest.mark.parametrize("reads", [0, PART])
def test_an_endpoint_that_dies_in_a_long_request(
    reads: int, how: str, variant: Variant, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """Not all that was read is held (`retryBodyLimit`): 502, at once or behind all that the client sends."""
    numbers = count()
    full = threading.Event()

    def script(connection: Connection) -> None:
        head = connection.read_head()
        assert head is not None
        if next(numbers):
            answer_by_target(connection, head)
            connection.wait_for_end()
            return
        connection.stream.take(reads)
        assert full.wait(DEADLINE)
        getattr(connection, how)()

    a, b = endpoint(script=script, receive_buffer=65536), endpoint()
    lb = balancer(a)
    client = lb.client()
    client.send(request("PUT", "/", f"Content-Length: {4 * SIZE}"))
    sent = 0

    def upload() -> None:
        nonlocal sent
        for _ in range(4 * SIZE >> 20):
            client.send(bytes(1 << 20))
            sent += 1 << 20

    uploading = threading.Thread(target=upload)
    uploading.start()
    wait_for_standstill(lambda: sent)
    lb.publish(a.value, b.value)
    full.set()
    uploading.join(DEADLINE)
    assert sent == 4 * SIZE
    assert client.read_response("PUT").status == 502
    assert client.how_closed() == "fin"
    assert lb.ends() == {"reset_before_head": 1}
    assert len(a.heads) == 1
    assert len(b.heads) == 0
    assert_spliced(splices, variant)


def test_a_reader_that_stands_still_in_a_long_response(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint(default=answer_by_target)
    lb = balancer(a, body_idle_timeout=0.25)
    client = lb.client(receive_buffer=65536)
    client.send(request("GET", f"/{8 * SIZE}"))
    client.stream.take_through(b"\r\n\r\n")
    assert a.wait_for_end(0) == "reset"
    with pytest.raises(ConnectionResetError):
        client.stream.take(8 * SIZE)
    check_another(lb, "body_timeout")


def test_an_endpoint_that_stands_still_in_its_long_response(
    variant: Variant, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    def stall(connection: Connection, message: Message) -> None:
        connection.send(head_of(SIZE), body_of(PART))
        connection.wait_for_end()

    a = endpoint(stall, default=answer_by_target)
    lb = balancer(a, body_idle_timeout=0.25)
    client = lb.client()
    client.send(request("GET", "/x"))
    client.stream.take_through(b"\r\n\r\n")
    assert client.stream.take(PART) == body_of(PART)
    assert client.how_closed() == "reset"
    check_another(lb, "body_timeout")
    assert_spliced(splices, variant)
