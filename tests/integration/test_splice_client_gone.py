"""Clients that leave, or only send their FIN, in the middle of a long body: the same on every loop."""

from __future__ import annotations

import threading
from itertools import count

import pytest

from lb import metrics
from tests.eventloop.splicing import Splices
from tests.fakes import DEADLINE, eventually, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection
from tests.integration.harness import Variant
from tests.integration.long_bodies import (
    answer_by_target,
    assert_spliced,
    body_of,
    check_another,
    digest_of,
    head_of,
    read_digest,
    send_body,
    slowly,
)

pytestmark = pytest.mark.any_parser

SIZE = 16 << 20
PART = 4 << 20


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_client_that_leaves_in_its_response(
    how: str, variant: Variant, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a = endpoint(default=answer_by_target)
    lb = balancer(a)
    client = lb.client(receive_buffer=65536)
    client.send(request("GET", f"/{8 * SIZE}"))
    client.stream.take_through(b"\r\n\r\n")
    client.stream.take(1 << 20)
    getattr(client, how)()
    assert a.wait_for_end(0) == "reset"
    eventually(lambda: lb.counter(metrics.CONNECTIONS_OPEN) == 0, "the end of the client's connection")
    check_another(lb, "client_gone")
    assert_spliced(splices, variant)


@pytest.mark.parametrize("how", ["reset", "close", "fin"])
@pytest.mark.parametrize("abort", [True, False])
def test_a_client_that_leaves_in_its_request(
    abort: bool, how: str, variant: Variant, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """A FIN too: the request can't be completed any more."""
    numbers = count()

    def script(connection: Connection) -> None:
        head = connection.read_head()
        assert head is not None
        if next(numbers):
            answer_by_target(connection, head)
        else:
            connection.stream.take(PART)
            read.set()
        connection.wait_for_end()

    read = threading.Event()
    a = endpoint(script=script)
    lb = balancer(a, abort_on_client_fin=abort)
    client = lb.client()
    client.send(request("POST", "/", f"Content-Length: {SIZE}"), body_of(PART))
    assert read.wait(DEADLINE)
    getattr(client, how)()
    assert a.wait_for_end(0) in ("reset", "fin")
    check_another(lb, "client_gone")
    assert_spliced(splices, variant)


@pytest.mark.parametrize("how", ["reset", pytest.param("close", marks=pytest.mark.slow)])
def test_a_client_that_leaves_while_its_endpoint_stands_still(
    how: str, variant: Variant, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """A FIN waits in the client's kernel behind what is not read; an RST does not, but only ours sees it meanwhile."""
    go_on = threading.Event()
    numbers = count()

    def script(connection: Connection) -> None:
        head = connection.read_head()
        assert head is not None
        if next(numbers):
            answer_by_target(connection, head)
        else:
            assert go_on.wait(2 * DEADLINE)
        connection.wait_for_end()

    a = endpoint(script=script, receive_buffer=65536)
    lb = balancer(a)
    client = lb.client()
    client.send(request("POST", "/", f"Content-Length: {8 * SIZE}"))
    client.socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        send_body(client.socket, 8 * SIZE)
    getattr(client, how)()
    if variant.loop == "epoll" and how == "reset":
        lb.wait_until_idle()
    go_on.set()
    assert a.wait_for_end(0) in ("reset", "fin")
    check_another(lb, "client_gone")


@pytest.mark.parametrize("abort", [True, False])
def test_a_fin_in_a_long_response(
    abort: bool, variant: Variant, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a = endpoint(default=answer_by_target)
    lb = balancer(a, abort_on_client_fin=abort)
    client = lb.client(receive_buffer=65536)
    client.send(request("GET", f"/{SIZE}"))
    client.stream.take_through(b"\r\n\r\n")
    client.fin()
    assert read_digest(client.stream, SIZE) == digest_of(SIZE)
    assert client.how_closed() == "fin"
    assert lb.ends() == {"ok": 1}
    assert_spliced(splices, variant)


def test_a_fin_behind_a_long_request_as_a_half_close(
    variant: Variant, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """The client has sent all of it before its endpoint has read anything of it."""
    go_on = threading.Event()

    def script(connection: Connection) -> None:
        head = connection.read_head()
        assert head is not None
        assert go_on.wait(DEADLINE)
        digests.append(read_digest(connection.stream, PART, slowly(100_000)))
        connection.requests += 1
        connection.send(head_of(SIZE))
        send_body(connection.socket, SIZE)
        connection.wait_for_end()

    digests: list[bytes] = []
    a = endpoint(script=script)
    lb = balancer(a, abort_on_client_fin=False)
    client = lb.client()
    client.send(request("POST", "/", f"Content-Length: {PART}"))
    sending = threading.Thread(target=lambda: (send_body(client.socket, PART), client.fin()))
    sending.start()
    a.wait_for_heads(1)
    go_on.set()
    client.stream.take_through(b"\r\n\r\n")
    assert read_digest(client.stream, SIZE) == digest_of(SIZE)
    assert client.how_closed() == "fin"
    sending.join()
    assert digests == [digest_of(PART)]
    assert lb.ends() == {"ok": 1}
    assert_spliced(splices, variant)
