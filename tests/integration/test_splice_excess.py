"""Bytes behind a long response are never taken for the next one."""

from __future__ import annotations

import pytest

from tests.fakes import request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection, response

pytestmark = pytest.mark.any_parser

LONG = bytes(range(256)) * 4100  # over 1 MiB


# 32 KiB is the first read on our loop, 64 KiB on another: one that is filled tells nothing of what stands behind it.
SIZES = [32768, 65536, 1 << 20]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("extra", [b"x", b"\r\n", response(b"smuggled")])
def test_bytes_behind_a_long_response_are_never_taken_for_the_next(
    extra: bytes, size: int, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """They are there when the response ends, and a pipelined request waits for a connection."""
    body = LONG[: size - len(response(LONG[:size])) + size]
    assert len(response(body)) == size

    def answer(connection: Connection, message: object) -> None:
        if len(connection.endpoint.requests) > 1:
            connection.send(response(b"next"))
        elif size <= 65536:
            # Read while they come, they might end before the extra bytes are sent: a window is 64 KiB wide.
            with lb.frozen():
                connection.send(response(body) + extra)
        else:
            connection.send(response(body) + extra)

    a = endpoint(default=answer)
    lb = balancer(a)
    client = lb.client()
    client.send(request() + request())
    assert client.read_response().body == body
    assert client.read_response().body == b"next"
    assert [c.requests for c in a.connections] == [1, 1]
