"""RFC 9112, section 9.5: a response that came early is read, also where the request could not be written to its end."""

from __future__ import annotations

import threading

import pytest

from tests.fakes import DEADLINE, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection, response

pytestmark = pytest.mark.any_parser


@pytest.mark.parametrize("end", ["reset", "fin"])
@pytest.mark.parametrize("size", [10, 200_000])
def test_an_early_response_is_read_although_writing_failed(
    size: int, end: str, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """Section 9.5: the endpoint answers at the head and is gone; more of the body is read from the client first."""
    may_answer, answered = threading.Event(), threading.Event()

    def script(connection: Connection) -> None:
        if connection.read_head() is None:
            return
        assert may_answer.wait(DEADLINE)
        connection.send(response(b"too much", "Connection: close", status="413 Content Too Large"))
        if end == "reset":
            connection.reset()
        else:
            connection.is_closed = True
            connection.socket.close()
        answered.set()

    a = endpoint(script=script)
    lb = balancer(a)
    client = lb.client()
    client.send(request("POST", "/", "Content-Length: 1000000"))
    a.wait_for_heads(1)
    with lb.frozen():
        client.send(b"x" * size)
        may_answer.set()
        assert answered.wait(DEADLINE)
    message = client.read_response("POST")
    assert (message.status, message.body) == (413, b"too much")
    assert message.get(b"connection") == b"close"
    assert client.how_closed() == "fin"
    assert lb.ends() == {"ok": 1}
