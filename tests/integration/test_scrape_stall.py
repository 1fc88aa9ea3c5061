"""A scrape of a thousand endpoints, beside requests that it must not hold up."""

from __future__ import annotations

import selectors
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from lb.http1.head import HeadLimits, HeadParser
from tests.fakes import Client, request
from tests.integration.harness import Variant
from tests.integration.ports import bind
from tests.integration.processes import LoadBalancer

ENDPOINTS = 1000
ROUNDS = 9
MOST = 0.005
"""Seconds, on a machine that reads a small head with h11 in 17 µs (as that of bench/micro/budgets.py)."""
YARDSTICK = 17e-6
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def ports() -> Iterator[list[int]]:
    """A thousand ports at which small requests are answered, by one thread."""
    listeners = [bind(0) for _ in range(ENDPOINTS)]
    is_over, is_awake = socket.socketpair()
    served: list[socket.socket] = []

    def serve() -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(is_awake, selectors.EVENT_READ)
            for listener in listeners:
                listener.listen(4)
                selector.register(listener, selectors.EVENT_READ)
            waiting = set(listeners)
            while True:
                for key, _ in selector.select():
                    sock = key.fileobj
                    assert isinstance(sock, socket.socket)
                    if sock is is_awake:
                        return
                    if sock in waiting:
                        connection, _ = sock.accept()
                        served.append(connection)
                        selector.register(connection, selectors.EVENT_READ)
                    elif sock.recv(65536):
                        sock.sendall(ANSWER)
                    else:
                        selector.unregister(sock)

    thread = threading.Thread(target=serve)
    thread.start()
    yield [listener.getsockname()[1] for listener in listeners]
    is_over.close()
    thread.join()
    for sock in (*listeners, *served, is_awake):
        sock.close()


def slower_than_usual() -> float:
    """How many times slower is this machine just now?"""
    parser, head = HeadParser(HeadLimits(), recogniser=False), request(host="localhost")
    took = []
    for _ in range(10):
        began = time.perf_counter()
        for _ in range(20):
            parser.request(head)
        took.append((time.perf_counter() - began) / 20)
    return statistics.median(took) / YARDSTICK


@pytest.mark.slow
@pytest.mark.any_parser
@pytest.mark.timeout(90)
def test_a_scrape_of_a_thousand_endpoints_stalls_nobody(variant: Variant, ports: list[int]) -> None:
    flags = [
        "--backends=" + ",".join(f"127.0.0.1:{port}" for port in ports),
        f"--loop={variant.loop}",
        f"--parser={variant.parser}",
    ]
    with LoadBalancer(*flags) as lb:
        client = lb.client()
        for _ in range(ENDPOINTS + 10):
            assert client.get().status == 200
        admin = Client(lb.admin_port)
        page = admin.exchange(request("GET", "/metrics", host="localhost")).body
        admin.close()
        assert page.count(b"podlb_picks_total{") == ENDPOINTS

        def slowest(while_: subprocess.Popen[bytes] | None) -> float:
            """Return how long the slowest took, of those that were asked while a page is made, or of a hundred."""
            took = []
            while while_.poll() is None if while_ is not None else len(took) < 100:
                began = time.perf_counter()
                assert client.get().status == 200
                took.append(time.perf_counter() - began)
            assert len(took) > 3
            return max(took)

        quiet, busy, slowness = [], [], []
        for _ in range(ROUNDS):
            slowness.append(slower_than_usual())
            quiet.append(slowest(None))
            scrape = ["curl", "-sS", "-o", "/dev/null", f"http://127.0.0.1:{lb.admin_port}/metrics"]
            with subprocess.Popen(scrape) as curl:
                busy.append(slowest(curl))
            assert curl.returncode == 0
        client.close()
    # Of each round the slowest, and of the rounds the middle one: any machine is busy with something else now and then.
    # On a slower one all of it takes longer: the pages, the requests, and this test's own endpoints.
    factor = max(1.0, statistics.median(slowness))
    assert statistics.median(busy) - statistics.median(quiet) < MOST * factor, (factor, quiet, busy)
