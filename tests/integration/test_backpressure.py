"""With a reader that stands still, neither a large response nor a large upload moves the balancer's memory."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes import DEADLINE, Client, Message, chunked, request, wait_for_standstill
from tests.integration.conftest import MakeEndpoint
from tests.integration.endpoint import Connection, Endpoint
from tests.integration.harness import Variant
from tests.integration.processes import LoadBalancer

pytestmark = [
    pytest.mark.any_parser,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.timeout(20),
]

PIECE = bytes(range(256)) * 1024  # 256 KiB
COUNT = 256  # 64 MiB
SIZE = len(PIECE) * COUNT
DIGEST = hashlib.sha256(PIECE * COUNT).digest()
LIMIT = 4 * 1024 * 1024


class Progress:
    """Counts bytes."""

    def __init__(self) -> None:
        self.bytes = 0


@contextmanager
def growth_limited(lb: LoadBalancer) -> Iterator[None]:
    """Fail if the peak of the balancer's resident memory grows by LIMIT or more."""
    before = lb.resident()
    Path(f"/proc/{lb.pid}/clear_refs").write_text("5")  # the peak starts anew
    yield
    peak = next(
        int(line.split()[1]) * 1024
        for line in Path(f"/proc/{lb.pid}/status").read_text().splitlines()
        if line.startswith("VmHWM:")
    )
    assert peak >= before // 2
    assert peak - before < LIMIT, f"grew by {(peak - before) / 1024:.0f} KiB"


def started(variant: Variant, endpoint: Endpoint, *flags: str) -> LoadBalancer:
    return LoadBalancer(
        f"--backends=127.0.0.1:{endpoint.port}", f"--loop={variant.loop}", f"--parser={variant.parser}", *flags
    )


@pytest.mark.slow
@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_a_client_that_stands_still(framing: str, variant: Variant, endpoint: MakeEndpoint) -> None:
    progress = Progress()

    def answer(connection: Connection, message: Message) -> None:
        if message.target == b"/warm":
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)
            return
        head = {
            "chunked": b"Transfer-Encoding: chunked\r\n",
            "close": b"",
        }[framing]
        connection.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        for _ in range(COUNT):
            connection.send(b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if framing == "chunked" else PIECE)
            progress.bytes += len(PIECE)
        if framing == "chunked":
            connection.send(b"0\r\n\r\n")
        elif framing == "close":
            connection.close()

    a = endpoint(default=answer)
    with started(variant, a) as lb:
        client = Client(lb.port, receive_buffer=65536)
        for _ in range(5):
            assert client.get("/warm").status == 200
        with growth_limited(lb):
            client.send(request("GET", "/large"))
            wait_for_standstill(lambda: progress.bytes)
            assert progress.bytes < SIZE, "the endpoint is held back"
            message = client.read_response()
            assert len(message.body) == SIZE
            assert hashlib.sha256(message.body).digest() == DIGEST
        client.close()
    assert len(a.requests) == 6


@pytest.mark.slow
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_endpoint_that_stands_still(framing: str, variant: Variant, endpoint: MakeEndpoint) -> None:
    progress = Progress()
    read_on = threading.Event()

    def script(connection: Connection) -> None:
        while (head := connection.read_head()) is not None:
            if head.target == b"/large":
                assert read_on.wait(3 * DEADLINE)
            connection.read_body(head)
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    a = endpoint(script=script, receive_buffer=65536)
    with started(variant, a) as lb:
        client = Client(lb.port, seconds=3 * DEADLINE)
        for _ in range(5):
            assert client.exchange(request("POST", "/warm", body=b"x" * 100_000)).status == 200

        def upload() -> None:
            if framing == "length":
                client.send(request("POST", "/large", f"Content-Length: {SIZE}"))
            else:
                client.send(request("POST", "/large", "Transfer-Encoding: chunked"))
            for _ in range(COUNT):
                client.send(PIECE if framing == "length" else chunked(PIECE)[:-5])
                progress.bytes += len(PIECE)
            if framing == "chunked":
                client.send(b"0\r\n\r\n")

        with growth_limited(lb):
            uploading = threading.Thread(target=upload)
            uploading.start()
            wait_for_standstill(lambda: progress.bytes)
            assert progress.bytes < SIZE, "the client is held back"
            read_on.set()
            assert client.read_response().status == 200
            uploading.join()
        assert hashlib.sha256(a.requests[-1].body).digest() == DIGEST
        client.close()
    assert len(a.requests) == 6


@pytest.mark.slow
@pytest.mark.one_variant
def test_an_upload_that_waits_for_an_endpoint(variant: Variant, endpoint: MakeEndpoint) -> None:
    progress = Progress()
    a = endpoint(is_up=False)
    with started(variant, a, "--endpoint-wait=10") as lb:
        client = Client(lb.port, seconds=3 * DEADLINE)

        def upload() -> None:
            client.send(request("POST", "/large", f"Content-Length: {SIZE}"))
            for _ in range(COUNT):
                client.send(PIECE)
                progress.bytes += len(PIECE)

        with growth_limited(lb):
            uploading = threading.Thread(target=upload)
            uploading.start()
            wait_for_standstill(lambda: progress.bytes)
            assert progress.bytes < SIZE, "the client is held back"
            a.up()
            assert client.read_response().status == 200
            uploading.join()
        client.close()
    assert hashlib.sha256(a.requests[0].body).digest() == DIGEST


@pytest.mark.one_variant
def test_a_pipeline_that_nobody_answers(variant: Variant, endpoint: MakeEndpoint) -> None:
    """Requests are read ahead, but not without bound: the first one's answer never comes."""
    progress = Progress()
    done = threading.Event()

    def script(connection: Connection) -> None:
        if connection.read_request() is not None:
            assert done.wait(3 * DEADLINE)
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            connection.wait_for_end()

    a = endpoint(script=script)
    with started(variant, a) as lb:
        client = Client(lb.port, seconds=3 * DEADLINE)
        raw = request("GET", "/", "X-Filler: " + "x" * 1000) * 1000

        def pipeline() -> None:
            try:
                for _ in range(60):
                    client.send(raw)
                    progress.bytes += len(raw)
            except OSError:
                pass  # cut at the end of the test

        with growth_limited(lb):
            sending = threading.Thread(target=pipeline)
            sending.start()
            wait_for_standstill(lambda: progress.bytes)
            assert len(a.heads) == 1
            client.socket.shutdown(2)
            sending.join()
        done.set()
        client.close()
