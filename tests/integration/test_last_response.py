"""The last response on a connection reaches a reader that is slow, and one that stands still sees that it is cut."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from lb import metrics
from tests.fakes import Client, Message, eventually, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection, respond, response

pytestmark = [pytest.mark.any_parser, pytest.mark.timeout(20)]

SIZE = 3_000_000
PIECE = 20_000
PACE = 0.02  # a megabyte a second, so that it takes longer than podlb lingers


def pieces(client: Client) -> Iterator[int]:
    """Read slowly; yield how many bytes of the body have come."""
    tick = threading.Event()
    client.stream.take_through(b"\r\n\r\n")
    got = len(client.stream.buffer)
    yield got
    while data := client.socket.recv(PIECE):
        got += len(data)
        yield got
        tick.wait(PACE)


@pytest.mark.slow
def test_an_early_response_to_a_slow_reader(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    def answer_early(connection: Connection) -> None:
        assert connection.read_head() is not None
        connection.send(response(b"x" * SIZE))
        connection.wait_for_end()

    client = balancer(endpoint(script=answer_early)).client(receive_buffer=65536)
    client.send(request("POST", "/", "Content-Length: 1000") + b"abc")
    assert max(pieces(client)) == SIZE


@pytest.mark.slow
def test_the_last_response_of_a_drain_to_a_slow_reader(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    gate = threading.Event()

    def answer(connection: Connection, message: Message) -> None:
        assert gate.wait(10)
        connection.send(response(b"x" * SIZE))

    a = endpoint(answer)
    lb = balancer(a)
    client = lb.client(receive_buffer=65536)
    client.send(request())
    a.wait_for_requests(1)
    lb.call(lb.server.stop)
    eventually(lambda: lb.server.proxy.is_draining, "draining")
    gate.set()
    assert max(pieces(client)) == SIZE


@pytest.mark.parametrize("size", [4_200_000, 4_400_000])
def test_a_close_delimited_body_whose_reader_stands_still_ends_with_a_reset(
    size: int, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """All of it is read from the endpoint, but a rest of it can't be written: a FIN would make it look complete."""
    lb = balancer(endpoint(respond(response(b"x" * size))), body_idle_timeout=0.3)
    client = lb.client(receive_buffer=4096)
    client.send(request().replace(b"HTTP/1.1", b"HTTP/1.0"))
    eventually(lambda: lb.counter(metrics.CONNECTIONS_OPEN) == 0, "the end", seconds=8)
    got = 0
    try:
        while data := client.socket.recv(65536):
            got += len(data)
    except ConnectionResetError:
        return
    # The kernel had taken everything: then it delivers everything, too.
    assert got >= size
