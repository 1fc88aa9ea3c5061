"""`trustedProxies`: whose X-Forwarded-* are believed."""

from __future__ import annotations

import socket

import pytest

from tests.fakes import DEADLINE, Message, Stream, pieces, read_response, request
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


def test_on_one_connection_every_request_is_believed(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """The first heads are read, the same again remembered, one with a body read in its own way, one cut in pieces."""
    a = endpoint()
    lb = balancer(a, trusted_proxies=("127.0.0.2/32",))
    for source, chain in (("127.0.0.2", b"192.0.2.1, 127.0.0.2"), ("127.0.0.3", b"127.0.0.3")):
        a.requests.clear()
        with socket.create_connection(("127.0.0.1", lb.port), DEADLINE, (source, 0)) as sock:
            stream = Stream(sock)
            plain = request("GET", "/", *CLAIMS)
            for raw in (plain, plain, plain, request("POST", "/", *CLAIMS, body=b"abc"), plain + plain):
                sock.sendall(raw)
                for _ in range(raw.count(b" HTTP/1.1\r\n")):
                    assert read_response(stream).status == 200
            for piece in pieces(plain, 7):
                sock.sendall(piece)
            assert read_response(stream).status == 200
        assert [m.get(b"x-forwarded-for") for m in a.requests] == [chain] * 7


@pytest.mark.parametrize(
    ("trusted", "chain"), [("::1", b"192.0.2.1, ::1"), ("fd00::/8", b"::1"), ("127.0.0.1", b"::1")]
)
def test_ipv6(trusted: str, chain: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    lb = balancer(a, host="::1", trusted_proxies=(trusted,))
    with socket.create_connection(("::1", lb.port), DEADLINE) as sock:
        sock.sendall(request("GET", "/", *CLAIMS))
        assert read_response(Stream(sock)).status == 200
    assert a.requests[0].get(b"x-forwarded-for") == chain


@pytest.mark.parametrize("trusted", ["127.0.0.1", "127.0.0.0/8"])
def test_an_ipv4_client_of_a_listener_for_both_families(
    trusted: str, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a = endpoint()
    lb = balancer(a, host="::", trusted_proxies=(trusted,))
    message = lb.client().get("/", *CLAIMS)
    assert message.status == 200
    assert a.requests[0].get(b"x-forwarded-for") == b"192.0.2.1, 127.0.0.1"


@pytest.mark.parametrize(
    ("lines", "name", "value"),
    [
        (("X-Forwarded-Proto: https", "X-Forwarded-Proto: http"), b"x-forwarded-proto", b"http"),
        (("X-Forwarded-Proto: a b",), b"x-forwarded-proto", b"http"),
        (("X-Forwarded-Proto:",), b"x-forwarded-proto", b"http"),
        (("X-Forwarded-Host: a", "X-Forwarded-Host: b"), b"x-forwarded-host", b"example.test"),
        (("X-Forwarded-Host:",), b"x-forwarded-host", b"example.test"),
        (("X-Forwarded-For:",), b"x-forwarded-for", b"127.0.0.1"),
    ],
)
def test_what_a_trusted_client_says_in_two_ways_or_not_at_all(
    lines: tuple[str, ...], name: bytes, value: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a = endpoint()
    assert balancer(a, trusted_proxies=("127.0.0.1",)).client().get("/", *lines).status == 200
    assert a.requests[0].all(name) == [value]


def test_connection_cannot_remove_what_is_continued(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    lines = (*CLAIMS, "Connection: X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Port")
    assert balancer(a, trusted_proxies=("127.0.0.1",)).client().get("/", *lines).status == 200
    assert (a.requests[0].get(b"x-forwarded-for") or b"").endswith(b"127.0.0.1")
    assert a.requests[0].get(b"x-forwarded-proto") is not None
    assert a.requests[0].get(b"x-forwarded-port") is None, "that one is the client's own, and hop by hop by its wish"
