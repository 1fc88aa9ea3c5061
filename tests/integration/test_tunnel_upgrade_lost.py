"""A 101 that is found behind a write that failed."""

from __future__ import annotations

import pytest

from lb import metrics
from tests.fakes import eventually, request
from tests.integration.conftest import MakeBalancer, MakePort
from tests.integration.tunnels import ASK, SWITCH

pytestmark = pytest.mark.any_parser


@pytest.mark.parametrize("size", [1, 20_000, 100_000])
def test_an_endpoint_that_switches_and_dies_while_the_body_is_written(
    size: int, balancer: MakeBalancer, port: MakePort
) -> None:
    """Its 101 is found behind the write that failed: it is of no use any more."""
    there = port()
    lb = balancer(there.value)
    client = lb.client()
    client.send(request("POST", "/", *ASK, f"Content-Length: {size + 5}") + b"begun")
    peer = there.accept()
    peer.read_head()
    assert peer.stream.take(5) == b"begun"
    with lb.frozen():
        client.send(bytes(size))
        peer.send(SWITCH)
        peer.reset()
    try:
        head = client.stream.take_through(b"\r\n\r\n")
        assert head.startswith((b"HTTP/1.1 101 ", b"HTTP/1.1 502 "))
        if head.startswith(b"HTTP/1.1 101 "):
            client.stream.take_to_end()
            raise AssertionError("in raw bytes a FIN would look like a complete stream")
    except ConnectionResetError:
        pass
    lb.wait_until_idle()
    client.close()
    eventually(lambda: lb.counter(metrics.CONNECTIONS_OPEN) == 0, "the end of the client's connection")
