"""From HTTP to raw bytes: what is early, what is refused, and what ends before it began."""

from __future__ import annotations

import pytest

from tests.fakes import Client, Message, eventually, pieces, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint, MakePort
from tests.integration.endpoint import Connection, close, reset, respond, response
from tests.integration.long_bodies import body_of
from tests.integration.tunnels import ASK, NASTY, SWITCH, Peer

pytestmark = pytest.mark.any_parser

UPGRADE = request("GET", "/chat", *ASK)


def until_switched(client: Client) -> None:
    head = client.stream.take_through(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head


def end_in_order(client: Client, peer: Peer) -> None:
    for end, other in ((client, peer), (peer, client)):
        end.fin()
        assert other.how_closed() == "fin"


@pytest.mark.parametrize("size", [1, 3000, 65536, 300_000])
@pytest.mark.parametrize("together", [True, False])
def test_what_the_client_says_before_the_switch(
    together: bool, size: int, balancer: MakeBalancer, port: MakePort
) -> None:
    """It waits, however much it is, and is not read as requests; with a refusal it would be."""
    there = port()
    lb = balancer(there.value)
    client = lb.client()
    early = (NASTY + body_of(size))[:size]
    if together:
        client.send(UPGRADE + early)
    else:
        client.send(UPGRADE, early)
    peer = there.accept()
    assert peer.read_head().target == b"/chat"
    assert peer.is_silent()
    assert peer.stream.buffer == b""
    peer.send(SWITCH)
    until_switched(client)
    client.send(b"later")
    assert peer.stream.take(size + 5) == early + b"later"
    end_in_order(client, peer)
    assert lb.ends() == {"ok": 1}


@pytest.mark.parametrize("size", [1, 3000, 65536, 300_000])
@pytest.mark.parametrize("how", ["together", "apart", "byte by byte"])
def test_what_the_endpoint_says_with_the_switch(how: str, size: int, balancer: MakeBalancer, port: MakePort) -> None:
    there = port()
    lb = balancer(there.value)
    client = lb.client()
    client.send(UPGRADE)
    peer = there.accept()
    peer.read_head()
    early = (NASTY + body_of(size))[:size]
    if how == "together":
        peer.send(SWITCH + early)
    elif how == "apart":
        peer.send(SWITCH, early)
    else:
        peer.send(*pieces(SWITCH + early[:20]), early[20:])
    until_switched(client)
    assert client.stream.take(size) == early
    end_in_order(client, peer)
    assert lb.ends() == {"ok": 1}


def test_both_are_early_in_one_turn(balancer: MakeBalancer, port: MakePort) -> None:
    there = port()
    lb = balancer(there.value)
    client = lb.client()
    client.send(UPGRADE)
    peer = there.accept()
    peer.read_head()
    with lb.frozen():
        client.send(NASTY)
        peer.send(SWITCH + NASTY)
        peer.fin()
    until_switched(client)
    assert client.stream.take_to_end() == NASTY
    assert peer.stream.take(len(NASTY)) == NASTY
    client.send(b"and on")
    assert peer.stream.take(6) == b"and on"
    client.fin()
    assert peer.how_closed() == "fin"
    assert lb.ends() == {"ok": 1}


def test_a_fin_behind_the_upgrade_is_a_half_close_where_it_may_be(balancer: MakeBalancer, port: MakePort) -> None:
    there = port()
    lb = balancer(there.value, abort_on_client_fin=False)
    client = lb.client()
    client.send(UPGRADE + NASTY)
    client.fin()
    peer = there.accept()
    peer.read_head()
    peer.send(SWITCH)
    assert peer.stream.take_to_end() == NASTY
    until_switched(client)
    peer.send(b"answer")
    peer.fin()
    assert client.stream.take_to_end() == b"answer"
    assert lb.ends() == {"ok": 1}


def test_a_client_that_goes_before_the_switch(balancer: MakeBalancer, port: MakePort) -> None:
    there = port()
    lb = balancer(there.value)
    for leave in (Client.fin, Client.reset):
        client = lb.client()
        client.send(UPGRADE)
        peer = there.accept()
        peer.read_head()
        leave(client)
        assert peer.how_closed() in ("fin", "reset")
    assert lb.ends() == {"client_gone": 2}


def test_an_upgrade_with_a_body(balancer: MakeBalancer, port: MakePort) -> None:
    """What is behind the body is the tunnel's."""
    there = port()
    lb = balancer(there.value)
    client = lb.client()
    client.send(request("POST", "/", *ASK, body=b"body") + b"raw")
    peer = there.accept()
    head = peer.read_head()
    assert head.get(b"content-length") == b"4"
    assert peer.stream.take(4) == b"body"
    assert peer.is_silent()
    peer.send(SWITCH)
    assert peer.stream.take(3) == b"raw"
    until_switched(client)
    end_in_order(client, peer)
    assert lb.ends() == {"ok": 1}


def test_an_upgrade_on_connections_that_were_used(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Both served requests before, and neither serves another."""

    def switch(connection: Connection, message: Message) -> None:
        connection.send(SWITCH + b"welcome")
        assert connection.stream.take(5) == b"hello"
        connection.wait_for_end()
        connection.close()

    a = endpoint(respond(response()), respond(response()), switch, default=respond(response(b"new")))
    lb = balancer(a)
    client = lb.client()
    for _ in range(2):
        assert client.get().body == b"ok"
    client.send(UPGRADE + b"hello")
    until_switched(client)
    assert client.stream.take(7) == b"welcome"
    assert lb.idle(a.value) == 0
    assert lb.client().get().body == b"new"
    client.fin()
    assert client.how_closed() == "fin"
    assert [c.requests for c in a.connections] == [3, 1]
    assert lb.idle(a.value) == 1
    assert lb.ends() == {"ok": 4}


@pytest.mark.parametrize("status", ["200 OK", "403 Forbidden", "426 Upgrade Required", "503 Service Unavailable"])
def test_a_refusal_is_a_response_like_any_other(status: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """What stands behind the request is read as requests then."""
    a = endpoint(respond(response(b"no", status=status)), default=respond(response(b"yes")))
    lb = balancer(a)
    client = lb.client()
    client.send(UPGRADE + request("GET", "/2") + request("POST", "/3", body=b"abc") + UPGRADE[:-2])
    first = client.read_response()
    assert (first.status, first.body) == (int(status[:3]), b"no")
    assert [client.read_response().body for _ in range(2)] == [b"yes", b"yes"]
    client.send(b"\r\n")
    assert client.read_response().body == b"yes"
    assert [message.target for message in a.requests] == [b"/chat", b"/2", b"/3", b"/chat"]
    assert [c.requests for c in a.connections] == [4]
    assert lb.ends() == {"ok": 4}


def test_garbage_behind_a_refused_upgrade_is_refused(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    client = balancer(endpoint()).client()
    client.send(UPGRADE + b"\x81\x85\x00\x00\x00\x00hello\r\n\r\n")
    assert client.read_response().status == 200
    assert client.read_response().status == 400
    assert client.how_closed() == "fin"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_what_is_not_an_upgrade_stays_http(version: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """In HTTP/1.0 it is ignored, and h2c is nobody's to allow here."""
    a = endpoint()
    client = balancer(a).client()
    raw = UPGRADE if version == "1.0" else UPGRADE.replace(b"websocket", b"h2c")
    client.send(raw.replace(b"HTTP/1.1", b"HTTP/" + version.encode()))
    assert client.read_response().status == 200
    assert a.requests[0].get(b"upgrade") is None
    if version == "1.1":
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert client.read_response().status == 505


def test_a_switch_to_something_else_is_a_502(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """And early bytes reach nobody, neither way."""
    raw = SWITCH.replace(b"websocket", b"h2c")
    a = endpoint(respond(raw + b"secret"), default=respond(response(b"next")))
    lb = balancer(a)
    client = lb.client()
    client.send(UPGRADE)
    message = client.read_response()
    assert (message.status, b"secret" in message.body) == (502, False)
    assert client.get().body == b"next"
    assert lb.ends() == {"bad_response": 1, "ok": 1}


@pytest.mark.parametrize("end", [close, reset])
def test_an_endpoint_that_dies_before_the_switch(end: object, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Nothing was sent to the client yet: another endpoint may switch."""

    def switch(connection: Connection, message: Message) -> None:
        connection.send(SWITCH + b"here")
        assert connection.stream.take(5) == b"early"
        connection.wait_for_end()
        connection.close()

    a, b = endpoint(default=end), endpoint(default=switch)
    lb = balancer(a, b)
    for _ in range(2):
        client = lb.client()
        client.send(UPGRADE + b"early")
        until_switched(client)
        assert client.stream.take(4) == b"here"
        client.fin()
        assert client.how_closed() == "fin"
    assert len(b.requests) == 2
    assert len(a.requests) == 1
    assert lb.ends() == {"ok": 2}


@pytest.mark.parametrize("data", [b"", b"last words"])
def test_an_endpoint_that_switches_and_dies(data: bytes, balancer: MakeBalancer, port: MakePort) -> None:
    """In one turn: then nobody waits for the end of a tunnel that has none."""
    there = port()
    lb = balancer(there.value)
    client = lb.client()
    client.send(UPGRADE)
    peer = there.accept()
    peer.read_head()
    with lb.frozen():
        peer.send(SWITCH + data)
        peer.reset()
    with pytest.raises(ConnectionResetError):
        client.stream.take_to_end()
    assert lb.ends() == {"reset_in_body": 1}


def test_a_drain_before_the_switch_lets_it_through(balancer: MakeBalancer, port: MakePort) -> None:
    there = port()
    lb = balancer(there.value, drain_timeout=4.0)
    client = lb.client()
    client.send(UPGRADE)
    peer = there.accept()
    peer.read_head()
    lb.call(lb.server.stop)
    eventually(lambda: lb.server.proxy.is_draining, "the drain")
    peer.send(SWITCH + b"x")
    until_switched(client)
    assert client.stream.take(1) == b"x"
    end_in_order(client, peer)
    assert lb.ends() == {"ok": 1}
