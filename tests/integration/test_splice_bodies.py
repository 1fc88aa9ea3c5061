"""Long bodies of known length: on our own loop through the kernel alone, on every loop the same bytes."""

from __future__ import annotations

import hashlib
import threading

import pytest

from lb import metrics
from lb.eventloop.splice import SPLICE_FROM
from tests.eventloop.splicing import Splices
from tests.fakes import chunked, pieces, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection, respond, response
from tests.integration.harness import Variant
from tests.integration.long_bodies import (
    answer_by_target,
    assert_spliced,
    at_once,
    body_of,
    digest_of,
    read_digest,
    send_body,
    slowly,
)

pytestmark = pytest.mark.any_parser

LONG = 20 << 20
PACES = pytest.mark.parametrize("pace", ["fast", "slow"])


@PACES
def test_a_long_response(
    pace: str, variant: Variant, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a = endpoint(default=answer_by_target)
    lb = balancer(a)
    client = lb.client(receive_buffer=None if pace == "fast" else 65536)
    for count in (1, 2):
        client.send(request("GET", f"/{LONG}"))
        client.stream.take_through(b"\r\n\r\n")
        assert read_digest(client.stream, LONG, at_once if pace == "fast" else slowly(200_000)) == digest_of(LONG)
        assert lb.ends() == {"ok": count}
    assert_spliced(splices, variant)
    assert lb.endpoint_counter(a.value, metrics.RESPONSES + 1) == 2
    assert len(a.connections) == 1
    assert client.is_silent()


@PACES
def test_a_long_request(
    pace: str, variant: Variant, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    digests = []

    def script(connection: Connection) -> None:
        while (head := connection.read_head()) is not None:
            digests.append(read_digest(connection.stream, LONG, at_once if pace == "fast" else slowly(200_000)))
            connection.requests += 1
            connection.endpoint.note_request(head)
            connection.send(response())

    a = endpoint(script=script, receive_buffer=None if pace == "fast" else 65536)
    lb = balancer(a)
    client = lb.client()
    for count in (1, 2):
        client.send(request("POST", "/", f"Content-Length: {LONG}"))
        send_body(client.socket, LONG)
        assert client.read_response().status == 200
        assert digests == [digest_of(LONG)] * count
        assert lb.ends() == {"ok": count}
    assert_spliced(splices, variant)
    assert len(a.connections) == 1


def test_both_at_once(variant: Variant, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """The response begins at the request's head, and both bodies flow at the same time."""
    size = 8 << 20
    digests = []

    def script(connection: Connection) -> None:
        head = connection.read_head()
        assert head is not None
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        sending = threading.Thread(target=send_body, args=(connection.socket, size - 1))
        sending.start()
        digests.append(read_digest(connection.stream, size))
        sending.join()
        # The response ends behind the request: both are complete.
        connection.requests += 1
        connection.send(b".")
        connection.wait_for_end()

    a = endpoint(script=script)
    lb = balancer(a)
    client = lb.client()
    client.send(request("POST", "/", f"Content-Length: {size}"))
    # Only then the body: all of it may be in the kernel's buffers before the endpoint has read the head.
    assert b"\r\nconnection: close\r\n" in client.stream.take_through(b"\r\n\r\n").lower()
    sending = threading.Thread(target=send_body, args=(client.socket, size))
    sending.start()
    assert read_digest(client.stream, size - 1) == digest_of(size - 1)
    sending.join()
    assert client.stream.take(1) == b"."
    assert digests == [digest_of(size)]
    # It was told so when the response began, before its request had ended.
    assert client.how_closed() == "fin"
    assert lb.ends() == {"ok": 1}
    assert lb.idle(a.value) == 1
    assert_spliced(splices, variant)


SIZES = [SPLICE_FROM * n + more for n in (1, 2) for more in (-1, 0, 1)]


def test_lengths_around_the_threshold(
    variant: Variant, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """The heads come alone, so that what is left of the body is known: the whole of it."""
    begun = threading.Event()

    def script(connection: Connection) -> None:
        while (head := connection.read_request()) is not None:
            size = int(head.target[1:])
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            assert begun.wait(5)
            begun.clear()
            connection.send(body_of(size))

    a = endpoint(script=script)
    lb = balancer(a)
    client = lb.client()
    for size in [0, 1, *SIZES]:
        splices.bytes = 0
        client.send(request("POST", f"/{size}", f"Content-Length: {size}"))
        client.send(body_of(size))
        client.stream.take_through(b"\r\n\r\n")
        requests_part = splices.bytes
        assert not requests_part or size > SPLICE_FROM
        begun.set()
        assert client.stream.take(size) == body_of(size)
        lb.wait_until_idle()
        assert bool(splices.bytes - requests_part) == (variant.loop == "epoll" and size >= SPLICE_FROM)
    assert [message.body for message in a.requests] == [body_of(size) for size in [0, 1, *SIZES]]
    assert len(a.connections) == 1
    assert client.is_silent()


@pytest.mark.parametrize("how", ["chunked", "close", "small"])
def test_others_are_copied(how: str, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    size = SPLICE_FROM // 2 if how == "small" else 1 << 20
    body = body_of(size)
    in_chunks = chunked(*pieces(body, 200_000))
    if how == "chunked":
        answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + in_chunks
        raw = request("POST", "/", "Transfer-Encoding: chunked") + in_chunks
    elif how == "close":
        answer, raw = b"HTTP/1.0 200 OK\r\n\r\n" + body, request()
    else:
        answer, raw = response(body), request("POST", body=body)

    def send(connection: Connection, message: object) -> None:
        connection.send(answer)
        if how == "close":
            connection.close()

    a = endpoint(default=send)
    client = balancer(a).client()
    for _ in range(2):
        assert client.exchange(raw).body == body
    assert a.requests[-1].body == (b"" if how == "close" else body)
    assert splices.calls == 0


def test_a_body_that_is_kept_for_another_attempt_is_copied(
    splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    body = body_of(1 << 20)
    a = endpoint()
    client = balancer(a, retry_body_limit=2 << 20).client()
    assert client.exchange(request("PUT", body=body)).status == 200
    assert a.requests[0].body == body
    assert splices.calls == 0


def test_lengths_and_framings_in_turn_on_one_connection(
    variant: Variant, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    sizes = [0, 3 << 20, 5, SPLICE_FROM, 1 << 20, 1000, 2 << 20]

    def answer(connection: Connection, message: object) -> None:
        size = len(message.body)  # type: ignore[attr-defined]
        body = body_of(size)
        if size == 1 << 20:
            connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunked(*pieces(body, 99_999)))
        else:
            connection.send(response(body))

    a = endpoint(default=answer)
    lb = balancer(a)
    client = lb.client()
    for size in sizes:
        assert client.exchange(request("POST", body=body_of(size))).body == body_of(size)
    assert [len(message.body) for message in a.requests] == sizes
    assert_spliced(splices, variant)
    assert len(a.connections) == 1
    assert lb.ends() == {"ok": len(sizes)}


def test_pipelined_behind_long_bodies(
    variant: Variant, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    size = 2 << 20
    body = body_of(size)
    a = endpoint(default=lambda connection, message: connection.send(response(message.target + message.body)))
    lb = balancer(a)
    client = lb.client()
    raws = [request("GET" if n % 2 else "POST", f"/{n}", body=None if n % 2 else body) for n in range(8)]
    sending = threading.Thread(target=client.send, args=(b"".join(raws),))
    sending.start()
    for number in range(8):
        expected = b"/%d" % number + (b"" if number % 2 else body)
        assert client.read_response().body == expected
    sending.join()
    assert [message.body for message in a.requests] == [b"" if n % 2 else body for n in range(8)]
    assert_spliced(splices, variant)
    assert client.is_silent()


@pytest.mark.parametrize("line", [b"HTTP/1.0\r\n\r\n", b"HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"])
def test_the_last_response_of_a_connection(
    line: bytes, variant: Variant, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a = endpoint(default=answer_by_target)
    lb = balancer(a)
    client = lb.client()
    client.send(b"GET /%d " % LONG + line)
    assert b"connection: close" in client.stream.take_through(b"\r\n\r\n").lower()
    assert read_digest(client.stream, LONG) == digest_of(LONG)
    assert client.how_closed() == "fin"
    assert lb.ends() == {"ok": 1}
    assert lb.idle(a.value) == 1
    assert_spliced(splices, variant)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_long_length_without_a_body(
    method: str, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    status = "200 OK" if method == "HEAD" else "304 Not Modified"
    a = endpoint(default=respond(f"HTTP/1.1 {status}\r\nContent-Length: {LONG}\r\n\r\n".encode()))
    client = balancer(a).client()
    for _ in range(2):
        assert client.exchange(request(method)).get(b"content-length") == b"%d" % LONG
    assert splices.calls == 0
    assert len(a.connections) == 1


def test_a_body_behind_expect_100_continue(
    variant: Variant, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    size = 4 << 20

    def script(connection: Connection) -> None:
        head = connection.read_head()
        assert head is not None
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.read_body(head)
        connection.send(response())
        connection.wait_for_end()

    a = endpoint(script=script)
    client = balancer(a).client()
    client.send(request("PUT", "/", f"Content-Length: {size}", "Expect: 100-continue"))
    assert client.stream.take_through(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
    send_body(client.socket, size)
    assert client.read_response().status == 200
    assert hashlib.sha256(a.requests[0].body).digest() == digest_of(size)
    assert_spliced(splices, variant)
