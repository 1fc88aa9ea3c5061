"""Long bodies at the pace of slow readers, while draining, beside short exchanges, and very many of them at once."""

from __future__ import annotations

import hashlib
import selectors
import socket
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.eventloop.splicing import Splices
from tests.fakes import DEADLINE, Client, Message, request, wait_for_standstill
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection, response
from tests.integration.harness import Variant
from tests.integration.long_bodies import (
    answer_by_target,
    assert_spliced,
    digest_of,
    pieces_of,
    read_digest,
    send_body,
    slowly,
)
from tests.integration.processes import LoadBalancer

pytestmark = pytest.mark.any_parser

SIZE = 16 << 20


@pytest.mark.slow
def test_a_slow_reader_is_not_cut(
    variant: Variant, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """It takes several times `bodyIdleTimeout` for all of it."""
    size = 12 << 20
    a = endpoint(default=answer_by_target)
    lb = balancer(a, body_idle_timeout=0.25)
    client = lb.client(receive_buffer=65536)
    client.send(request("GET", f"/{size}"))
    client.stream.take_through(b"\r\n\r\n")
    began = time.monotonic()
    assert read_digest(client.stream, size, slowly(150_000, 0.02)) == digest_of(size)
    assert time.monotonic() - began > 4 * 0.25
    assert lb.ends() == {"ok": 1}
    assert_spliced(splices, variant)


def test_a_drain_lets_a_long_response_end(
    variant: Variant, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a = endpoint(default=answer_by_target)
    lb = balancer(a, drain_timeout=DEADLINE)
    client = lb.client(receive_buffer=65536)
    client.send(request("GET", f"/{SIZE}", "Connection: close"))
    client.stream.take_through(b"\r\n\r\n")
    first, *others = pieces_of(SIZE)
    assert client.stream.take(len(first)) == first
    lb.call(lambda: lb.server.stop(skip_delay=True))
    for piece in others:
        assert client.stream.take(len(piece)) == piece
    assert client.how_closed() == "fin"
    assert lb._ends() == {"ok": 1}
    assert_spliced(splices, variant)


def test_a_drain_cuts_what_takes_too_long(
    variant: Variant, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a = endpoint(default=answer_by_target)
    lb = balancer(a, drain_timeout=0.1)
    client = lb.client(receive_buffer=65536)
    client.send(request("GET", f"/{8 * SIZE}"))
    client.stream.take_through(b"\r\n\r\n")
    client.stream.take(1 << 20)
    lb.call(lambda: lb.server.stop(skip_delay=True))
    assert a.wait_for_end(0) == "reset"
    with pytest.raises(ConnectionResetError):
        client.stream.take(8 * SIZE)
    assert lb._ends() == {"drain_cut": 1}
    assert_spliced(splices, variant)


def test_short_exchanges_beside_long_ones(
    variant: Variant, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """While four clients load as fast as they can, each of many short requests is answered."""
    loaded = 0
    enough = threading.Event()
    failed: list[BaseException] = []
    a = endpoint(default=answer_by_target)
    short = endpoint(default=answer_by_target)
    lb = balancer(a, short)

    def load(client: Client) -> None:
        nonlocal loaded
        try:
            while not enough.is_set():
                client.send(request("GET", f"/{SIZE}"))
                client.stream.take_through(b"\r\n\r\n")
                assert read_digest(client.stream, SIZE) == expected
                loaded += 1
        except BaseException as error:
            failed.append(error)

    expected = digest_of(SIZE)
    loading = [threading.Thread(target=load, args=(lb.client(),)) for _ in range(4)]
    for thread in loading:
        thread.start()
    slowest = 0.0
    asked = 0
    clients = [lb.client() for _ in range(8)]
    while loaded < 4 or asked < 60:
        began = time.monotonic()
        assert clients[asked % 8].get("/10").status == 200
        slowest = max(slowest, time.monotonic() - began)
        asked += 1
    enough.set()
    for thread in loading:
        thread.join(DEADLINE)
    assert failed == []
    assert slowest < 1.0
    assert_spliced(splices, variant)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_gibibyte_each_way(
    variant: Variant, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    size = 1 << 30
    digests: list[bytes] = []

    def script(connection: Connection) -> None:
        connection.socket.settimeout(60.0)
        while (head := connection.read_head()) is not None:
            if head.method == b"POST":
                digests.append(read_digest(connection.stream, size, slowly(4 << 20, 0.002)))
                connection.send(response())
            else:
                answer_by_target(connection, head)

    def upload() -> None:
        client = lb.client(seconds=60.0)
        client.send(request("POST", "/", f"Content-Length: {size}"))
        send_body(client.socket, size)
        statuses.append(client.read_response().status)

    statuses: list[int] = []
    lb = balancer(endpoint(script=script, receive_buffer=256 << 10))
    sending = threading.Thread(target=upload)
    sending.start()
    client = lb.client(seconds=60.0, receive_buffer=256 << 10)
    client.send(request("GET", f"/{size}"))
    client.stream.take_through(b"\r\n\r\n")
    loaded = read_digest(client.stream, size, slowly(4 << 20, 0.002))
    sending.join(60.0)
    assert statuses == [200]
    assert [loaded] == digests == [digest_of(size)]
    assert lb.ends() == {"ok": 2}
    assert_spliced(splices, variant)


READERS = 200
LOADED = 20 << 20
MOST = {"epoll": READERS * (320 << 10)}
"""By how much memory may grow on a loop: what is buffered for a connection that is not read is 256 KiB on ours."""


def growth(lb: LoadBalancer, before: int) -> int:
    """Return by how much the peak of the balancer's resident memory lies above `before`."""
    status = Path(f"/proc/{lb.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")) - before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.timeout(120)
def test_two_hundred_slow_readers(variant: Variant, endpoint: MakeEndpoint) -> None:
    """4 GB in all. First nobody reads, then all do, in turn and a little at a time."""

    def answer(connection: Connection, message: Message) -> None:
        connection.socket.settimeout(60.0)
        # The kernel would take megabytes of each.
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        # Threads that send keep the interpreter from those that have yet to read their request, for seconds.
        if message.target == target.encode():
            assert all_have_asked.wait(60.0)
        answer_by_target(connection, message)

    target = f"/{LOADED}"
    all_have_asked = threading.Event()
    expected = digest_of(LOADED)
    a = endpoint(default=answer)
    flags = [f"--backends=127.0.0.1:{a.port}", f"--loop={variant.loop}", f"--parser={variant.parser}"]
    with LoadBalancer(*flags) as lb, selectors.DefaultSelector() as selector, ExitStack() as stack:
        for _ in range(20):
            client = lb.client()
            assert client.get("/100000").status == 200
            client.close()
        before = lb.resident()
        clients = [Client(lb.port, receive_buffer=65536, seconds=60.0) for _ in range(READERS)]
        for client in clients:
            stack.callback(client.close)
            client.send(request("GET", target))
        a.wait_for_heads(20 + READERS)
        all_have_asked.set()
        wait_for_standstill(lb.resident, still=0.5, seconds=60.0)
        left, digests = {}, {}
        for number, client in enumerate(clients):
            client.stream.take_through(b"\r\n\r\n")
            body = client.stream.buffer
            left[client] = LOADED - len(body)
            if not number % 20:
                digests[client] = hashlib.sha256(body)
            selector.register(client.socket, selectors.EVENT_READ, client)
        while left:
            for key, _ in selector.select():
                client = key.data
                data = client.socket.recv(65536)
                assert data
                left[client] -= len(data)
                if client in digests:
                    digests[client].update(data)
                if not left[client]:
                    selector.unregister(client.socket)
                    del left[client]
        assert {digest.digest() for digest in digests.values()} == {expected}
        assert growth(lb, before) < MOST.get(variant.loop, READERS * (512 << 10))
