"""`trustedProxies`: whose X-Forwarded-* are believed."""

from __future__ import annotations

import socket

import pytest

from tests.fakes import DEADLINE, Message, Stream, read_response, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Endpoint
from tests.integration.harness import Balancer

CLAIMS = (
    "X-Forwarded-For: 192.0.2.1",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: shop.example",
    "X-Forwarded-Port: 8443",
    "Forwarded: for=192.0.2.1",
    "X-Real-IP: 192.0.2.1",
)


def forwarded(lb: Balancer, a: Endpoint, source: str, *lines: str) -> Message:
    """Return what arrives of a request from the address `source`."""
    with socket.create_connection(("127.0.0.1", lb.port), DEADLINE, (source, 0)) as sock:
        sock.sendall(request("GET", "/", *lines))
        assert read_response(Stream(sock)).status == 200
    return a.requests[-1]


def test_a_trusted_client_is_believed(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    message = forwarded(balancer(a, trusted_proxies=("127.0.0.2",)), a, "127.0.0.2", *CLAIMS)
    assert message.get(b"x-forwarded-for") == b"192.0.2.1, 127.0.0.2"
    assert message.get(b"x-forwarded-proto") == b"https"
    assert message.get(b"x-forwarded-host") == b"shop.example"
    assert message.get(b"x-forwarded-port") == b"8443"
    assert {b"forwarded", b"x-real-ip"}.isdisjoint(message.names)


@pytest.mark.parametrize("trusted", [(), ("127.0.0.2",), ("10.0.0.0/8", "fd00::/8")])
def test_others_are_not(trusted: tuple[str, ...], balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    message = forwarded(balancer(a, trusted_proxies=trusted), a, "127.0.0.3", *CLAIMS)
    assert message.get(b"x-forwarded-for") == b"127.0.0.3"
    assert message.get(b"x-forwarded-proto") == b"http"
    assert message.get(b"x-forwarded-host") == message.get(b"host")
    assert {b"x-forwarded-port", b"forwarded", b"x-real-ip"}.isdisjoint(message.names)


def test_the_same_head_from_one_and_the_other(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """What a head comes to is remembered, but not across the border of trust."""
    a = endpoint()
    lb = balancer(a, trusted_proxies=("127.0.0.0/30",))
    line = "X-Forwarded-For: 192.0.2.1"
    for _ in range(4):
        assert forwarded(lb, a, "127.0.0.2", line).get(b"x-forwarded-for") == b"192.0.2.1, 127.0.0.2"
        assert forwarded(lb, a, "127.0.0.9", line).get(b"x-forwarded-for") == b"127.0.0.9"


def test_a_chain_on_several_lines_is_continued_in_order(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    lb = balancer(a, trusted_proxies=("127.0.0.0/8",))
    lines = ("X-Forwarded-For: 192.0.2.1, 192.0.2.2", "A: b", "x-forwarded-for: 192.0.2.3")
    message = forwarded(lb, a, "127.0.0.2", *lines)
    assert message.get(b"x-forwarded-for") == b"192.0.2.1, 192.0.2.2, 192.0.2.3, 127.0.0.2"
