"""A reply of ours ends an exchange whose body was read, but not taken: the next request is read all the same."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.fakes import DEADLINE, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection, response

pytestmark = pytest.mark.any_parser

ENDS: dict[str, tuple[int, Callable[[Connection], object]]] = {
    "reset": (502, Connection.reset),
    "nonsense": (502, lambda connection: connection.send(b"nonsense\r\n\r\n")),
    "silence": (504, lambda connection: None),
}


@pytest.mark.parametrize("end", ["reset", "nonsense", pytest.param("silence", marks=pytest.mark.slow)])
def test_the_next_request_is_read(end: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    status, act = ENDS[end]
    sent, over = threading.Event(), threading.Event()

    def script(connection: Connection) -> None:
        head = connection.read_head()
        if head is None:
            return
        if head.method == b"GET":
            connection.send(response(b"next", "Connection: close"))
            connection.close()
            return
        assert sent.wait(DEADLINE)
        act(connection)
        assert over.wait(DEADLINE)
        connection.is_closed = True

    a = endpoint(script=script, receive_buffer=4096)
    lb = balancer(a, response_timeout=0.1 if end == "silence" else DEADLINE, body_idle_timeout=0.4)
    kept = 0
    # How much the kernel takes is not known: somewhere on this way its buffers, and ours, are just full.
    for size in range(64 * 1024, 4 * 1024 * 1024, 200 * 1024):
        sent.clear()
        over.clear()
        client = lb.client()
        client.send(request("PUT", "/", f"Content-Length: {size}"))
        client.socket.settimeout(0.3)
        try:
            client.send(b"x" * size)
        except TimeoutError:
            break  # full
        finally:
            client.socket.settimeout(DEADLINE)
            sent.set()
        message = client.read_response("PUT")
        over.set()
        if message.status == 408:
            break  # full: the balancer does not read on, since the endpoint takes nothing
        assert message.status == status
        if message.get(b"connection") is None:
            kept += 1
            assert client.get().body == b"next", f"stuck after a body of {size} bytes"
    over.set()
    assert kept


@pytest.mark.parametrize("size", [65536, 100_000, 200_000])
def test_the_next_request_is_read_after_503(size: int, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """A whole body was read while there was no endpoint."""
    a = endpoint()
    lb = balancer(endpoint_wait=0.2)
    client = lb.client()
    message = client.exchange(request("POST", body=b"x" * size))
    assert message.status == 503
    lb.publish(a.value)
    if message.get(b"connection") is None:
        assert client.get().status == 200


def test_the_next_request_is_read_after_a_failed_connect(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint(is_up=False)
    lb = balancer(a, endpoint_wait=0)
    client = lb.client()
    with lb.frozen():
        client.send(request("POST", body=b"x" * 100_000))
    message = client.read_response()
    assert message.status == 503
    a.up()
    if message.get(b"connection") is None:
        assert client.get().status == 200


@pytest.mark.parametrize("body", [b"x" * 10, b"x" * 5_000])
def test_there_is_no_endpoint_for_a_request_whose_body_came_with_it(
    body: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """It is read before an endpoint is looked for: the connection is kept, and what stands behind it is served."""
    lb = balancer(endpoint_wait=0.0)
    client = lb.client()
    with lb.frozen():
        client.send(request("POST", body=body) + request("PUT", "/next", body=body) + request("GET", "/last"))
    for method in ("POST", "PUT", "GET"):
        message = client.read_response(method)
        assert (message.status, message.get(b"connection")) == (503, None)
    assert lb.ends() == {"no_endpoint": 3}
    a = endpoint()
    lb.publish(a.value)
    assert client.exchange(request("POST", body=body)).status == 200
    assert [each.body for each in a.requests] == [body]
