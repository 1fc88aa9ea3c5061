"""Upgrade and 101 (RFC 9110, sections 7.8, 15.2.2 and 15.5.22) as far as the heads go; tunnels have their own tests."""

from __future__ import annotations

import re

import pytest

from tests.fakes import DEADLINE, Message, parse_head, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection, Script, respond, response

STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2}) (.*)")
ASK = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: abc"]
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX: y\r\n\r\n"


def switch(raw: bytes = SWITCH) -> Script:
    """Switch at once, then send back what comes."""

    def script(connection: Connection) -> None:
        if connection.read_head() is None:
            return
        connection.send(raw)
        connection.socket.settimeout(DEADLINE)
        while connection.stream.buffer or connection.stream.fill():
            connection.send(connection.stream.buffer)
            connection.stream.buffer = b""
        connection.peer_end = "fin"

    return script


def options(message: Message) -> list[bytes]:
    return [option.strip().lower() for option in (message.get(b"connection") or b"").split(b",")]


@pytest.mark.parametrize(
    "lines",
    [
        ASK,
        ["Connection: keep-alive, upgrade", "Upgrade: WebSocket"],
        ["Connection: x", "Connection: ,UPGRADE", "Upgrade: h2c, websocket", "HTTP2-Settings: abc"],
        ["Connection: Upgrade", "Upgrade: foo/1,, websocket"],
    ],
    ids=repr,
)
def test_an_allowed_upgrade_is_passed_on_both_ways(
    lines: list[str], balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """Section 7.8: with a Connection of our own that names it, and without what is not allowed."""
    a = endpoint(script=switch())
    client = balancer(a).client()
    client.send(request("GET", "/", *lines))
    head = parse_head(client.stream.take_through(b"\r\n\r\n"), STATUS_LINE)
    assert head.status == 101
    assert head.get(b"upgrade") == b"websocket"
    assert options(head) == [b"upgrade"]
    assert head.get(b"x") == b"y"
    client.send(b"\x81\x05hello")
    assert client.stream.take(7) == b"\x81\x05hello"
    (asked,) = a.heads
    upgrade = asked.get(b"upgrade")
    assert upgrade is not None
    assert upgrade.lower() == b"websocket"
    assert options(asked) == [b"upgrade"]
    assert asked.get(b"http2-settings") is None


@pytest.mark.parametrize(
    "lines",
    [
        ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: abc"],
        ["Connection: Upgrade", "Upgrade: foo/1, TLS/1.0"],
        ["Connection: Upgrade", "Upgrade: websockets"],
        ["Connection: Upgrade", "Upgrade:"],
        ["Connection: Upgrade"],
    ],
    ids=repr,
)
def test_any_other_upgrade_is_ignored(lines: list[str], balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    assert balancer(a).client().get("/", *lines).status == 200
    assert {b"upgrade", b"connection", b"http2-settings"}.isdisjoint(a.requests[0].names)


def test_http_1_0_has_no_upgrade(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 7.8: it is ignored."""
    a = endpoint()
    client = balancer(a).client()
    client.send(request("GET", "/", *ASK).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert client.read_response().status == 200
    assert {b"upgrade", b"connection"}.isdisjoint(a.requests[0].names)


@pytest.mark.parametrize(
    ("lines", "raw"),
    [
        ([], SWITCH),
        (["Connection: Upgrade", "Upgrade: h2c"], SWITCH.replace(b"websocket", b"h2c")),
        (ASK, SWITCH.replace(b"websocket", b"h2c")),
        (ASK, SWITCH.replace(b"websocket", b"websocket, foo")),
        (ASK, SWITCH.replace(b"Upgrade: websocket\r\n", b"")),
    ],
    ids=["not asked for", "dropped", "another", "one more", "none"],
)
def test_a_101_that_nobody_asked_for_is_a_502(
    lines: list[str], raw: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """Section 7.8: no switch to what the client did not name, nor without saying to what."""
    a = endpoint(respond(raw))
    client = balancer(a).client()
    assert client.get("/", *lines).status == 502
    assert a.wait_for_end(0) in ("fin", "reset")
    assert client.get().status == 200


def test_an_upgrade_that_the_endpoint_ignores_changes_nothing(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    client = balancer(a).client()
    for _ in range(2):
        assert client.get("/", *ASK).body == b"ok"
    assert client.get().body == b"ok"
    assert [c.requests for c in a.connections] == [3]


@pytest.mark.parametrize("upgrade", ["websocket", "WebSocket", "h2c, websocket", "websocket, TLS/1.0"])
def test_a_426_keeps_an_allowed_upgrade(upgrade: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 15.5.22: it must name what is required, and section 7.8: Connection names the field."""
    raw = response(b"no", f"Upgrade: {upgrade}", "Connection: Upgrade", status="426 Upgrade Required")
    client = balancer(endpoint(default=respond(raw))).client()
    for _ in range(2):
        message = client.get()
        assert (message.status, message.body) == (426, b"no")
        named = message.get(b"upgrade")
        assert named is not None
        assert named.lower() == b"websocket"
        assert options(message) == [b"upgrade"]


def test_an_upgrade_in_another_response_is_for_our_connection_alone(
    balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a = endpoint(respond(response(b"ok", "Upgrade: h2c", "Connection: Upgrade")))
    message = balancer(a).client().get()
    assert {b"upgrade", b"connection"}.isdisjoint(message.names)


def test_100_comes_before_101(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 7.8: with both expectations, the body comes before the switch."""

    def script(connection: Connection) -> None:
        head = connection.read_head()
        assert head is not None
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.read_body(head)
        connection.send(SWITCH, b"raw")
        connection.wait_for_end()

    a = endpoint(script=script)
    client = balancer(a).client()
    client.send(request("POST", "/", *ASK, "Expect: 100-continue", "Content-Length: 3"))
    assert client.stream.take_through(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
    client.send(b"abc")
    assert client.stream.take_through(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    assert client.stream.take(3) == b"raw"
    assert a.requests[0].body == b"abc"
