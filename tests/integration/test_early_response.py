"""An endpoint answers early, or dies, and does not read the body: no client is stuck, and no connection leaks."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fakes import DEADLINE, eventually, request, wait_for_standstill
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection, response

pytestmark = pytest.mark.any_parser


def test_an_endpoint_that_answers_early_and_reads_on_later_blocks_nobody(
    balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """All of the request was read from the client, but more of it than a buffer holds waits for the endpoint."""
    sent, read_on = threading.Event(), threading.Event()

    def answer_early(connection: Connection) -> None:
        head = connection.read_head()
        if head is None:
            return
        assert sent.wait(DEADLINE)
        connection.send(response(b"early"))
        assert read_on.wait(DEADLINE)
        connection.read_body(head)
        while connection.read_request() is not None:
            connection.send(response(b"next"))

    a = endpoint(script=answer_early, receive_buffer=4096)
    kept = 0
    lb = balancer(a)
    # How much the kernel takes is not known: somewhere on this way its buffers, and ours, are just full.
    for size in range(64 * 1024, 4 * 1024 * 1024, 120 * 1024):
        sent.clear()
        read_on.clear()
        client = lb.client()
        client.send(request("POST", "/", f"Content-Length: {size}"))
        client.socket.settimeout(0.3)
        try:
            client.send(b"x" * size)
        except TimeoutError:
            break  # full
        finally:
            client.socket.settimeout(DEADLINE)
        sent.set()
        message = client.read_response("POST")
        assert message.body == b"early"
        read_on.set()
        if message.get(b"connection") is None:
            kept += 1
            # On the same connection to the endpoint or on a new one.
            assert client.get().body in (b"next", b"early"), f"stuck after a body of {size} bytes"
        lb.publish()
        lb.publish(a.value)
    assert kept


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def established(port: int) -> int:
    """Return how many connections accepted on `port` are established (Linux)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(1 for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01")


def stand_still(done: threading.Event) -> Callable[[Connection], None]:
    """Answer at the head, read nothing of the body and close nothing."""

    def script(connection: Connection) -> None:
        assert connection.read_head() is not None
        connection.send(response(b"too much", status="413 Content Too Large"))
        assert done.wait(3 * DEADLINE)
        connection.is_closed = True

    return script


def test_a_client_that_sends_all_before_it_reads_gets_an_early_response(
    balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    done = threading.Event()
    a = endpoint(script=stand_still(done))
    client = balancer(a).client()
    size = 100_000_000  # more than all buffers of the kernel on the way hold
    try:
        client.send(request("POST", "/", f"Content-Length: {size}"))
        client.send(*[b"x" * 1_000_000] * 100)
        message = client.read_response()
        assert (message.status, message.body) == (413, b"too much")
        assert client.how_closed() == "fin"
    finally:
        done.set()


@linux_only
def test_the_connection_of_an_early_response_does_not_leak(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    done = threading.Event()
    a = endpoint(script=stand_still(done))
    client = balancer(a).client()
    try:
        client.send(request("POST", "/", "Content-Length: 32000000"))
        with suppress(OSError):
            client.send(b"x" * 32_000_000)
        assert client.read_response().status == 413
        client.reset()
        eventually(lambda: established(a.port) == 0, "the end of the connection to the endpoint")
    finally:
        done.set()


def test_an_endpoint_that_dies_in_a_large_upload(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """The client sends all before it reads, and gets its 502."""
    full = threading.Event()

    def script(connection: Connection) -> None:
        assert connection.read_head() is not None
        assert full.wait(DEADLINE)
        connection.reset()

    a = endpoint(script=script, receive_buffer=65536)
    lb = balancer(a)
    client = lb.client()
    client.send(request("PUT", "/", "Content-Length: 100000000"))
    sent = 0

    def upload() -> None:
        nonlocal sent
        for _ in range(100):
            client.send(b"x" * 1_000_000)
            sent += 1_000_000

    uploading = threading.Thread(target=upload)
    uploading.start()
    wait_for_standstill(lambda: sent)
    full.set()
    uploading.join(DEADLINE)
    assert sent == 100_000_000
    assert client.read_response("PUT").status == 502
    assert client.how_closed() == "fin"
    assert len(a.heads) == 1
