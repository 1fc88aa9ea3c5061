"""A reader that is slow but steady makes progress: `bodyIdleTimeout` does not cut it."""

from __future__ import annotations

import threading

import pytest

from tests.fakes import request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection, respond, response

pytestmark = [pytest.mark.any_parser, pytest.mark.slow]


SIZE = 8_000_000
PACE = 0.02
PIECE = 25_000  # 1.25 MB a second: what our buffer holds, up to 320 KiB, takes a quarter of a second
TIMEOUT = 0.15


@pytest.mark.timeout(20)
def test_a_slow_reader_makes_progress(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint(respond(response(b"x" * SIZE)))
    lb = balancer(a, body_idle_timeout=TIMEOUT)
    client = lb.client()
    client.send(request())
    client.stream.take_through(b"\r\n\r\n")
    ticks = threading.Event()
    left = SIZE - len(client.stream.buffer)
    while left:
        data = client.socket.recv(PIECE)
        assert data
        left -= len(data)
        ticks.wait(PACE)
    assert lb.ends() == {"ok": 1}


@pytest.mark.timeout(20)
def test_a_slow_endpoint_makes_progress(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    ticks = threading.Event()

    def read_slowly(connection: Connection) -> None:
        head = connection.read_head()
        assert head is not None
        left = SIZE - len(connection.stream.buffer)
        while left:
            data = connection.socket.recv(min(left, PIECE))
            if not data:
                return
            left -= len(data)
            ticks.wait(PACE)
        connection.send(response())
        connection.stream.buffer = b""
        connection.wait_for_end()

    a = endpoint(script=read_slowly)
    lb = balancer(a, body_idle_timeout=TIMEOUT)
    client = lb.client(seconds=18.0)
    assert client.exchange(request("POST", body=b"x" * SIZE)).status == 200
