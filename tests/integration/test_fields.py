"""Fields: what is removed both ways, what is set, and that what an untrusted client claims is dropped."""

from __future__ import annotations

import re

import pytest

from tests.fakes import Message, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import respond, response


def forwarded(balancer: MakeBalancer, endpoint: MakeEndpoint, raw: bytes) -> Message:
    """Return the request that an endpoint gets for `raw`."""
    a = endpoint()
    assert balancer(a).client().exchange(raw).status == 200
    (message,) = a.requests
    return message


def test_a_whole_head(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    message = forwarded(balancer, endpoint, request("GET", "/a?b=c", "Accept: */*", "X-Request-Id: mine"))
    assert message.raw_head.startswith(b"GET /a?b=c HTTP/1.1\r\n")
    assert sorted(message.fields) == [
        (b"accept", b"*/*"),
        (b"host", b"example.test"),
        (b"via", b"1.1 podlb"),
        (b"x-forwarded-for", b"127.0.0.1"),
        (b"x-forwarded-host", b"example.test"),
        (b"x-forwarded-proto", b"http"),
        (b"x-request-id", b"mine"),
    ]


def test_other_fields_are_passed_on_as_they_are(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    lines = ["Cookie: a=b", "X-One: 1", "x-TWO:  two words  ", "X-One: 2", "X-Empty:", "Trailer: X-Sum", "X-High: \xe9"]
    message = forwarded(balancer, endpoint, request("GET", "/", *lines))
    assert [
        field for field in message.fields if field[0] in (b"cookie", b"x-one", b"x-two", b"x-empty", b"x-high")
    ] == [
        (b"cookie", b"a=b"),
        (b"x-one", b"1"),
        (b"x-two", b"two words"),
        (b"x-one", b"2"),
        (b"x-empty", b""),
        (b"x-high", b"\xe9"),
    ]
    assert b"x-TWO: two words\r\n" in message.raw_head, "names keep their case"


HOP_BY_HOP = [
    "Connection: keep-alive, X-Named, x-OTHER",
    "Connection: Third",
    "X-Named: 1",
    "X-Other: 2",
    "Third: 3",
    "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive",
    "TE: deflate",
    "Upgrade: h2c, websocket",
    "HTTP2-Settings: abc",
    "X-Kept: 4",
]


def test_hop_by_hop_fields_do_not_reach_the_endpoint(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    message = forwarded(balancer, endpoint, request("GET", "/", *HOP_BY_HOP))
    gone = {line.partition(":")[0].lower().encode() for line in HOP_BY_HOP[:-1]}
    assert gone.isdisjoint(message.names)
    assert message.get(b"x-kept") == b"4"


def test_hop_by_hop_fields_do_not_reach_the_client(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    lines = [line for line in HOP_BY_HOP if not line.startswith("HTTP2")]  # that is a field of requests
    a = endpoint(respond(response(b"ok", *lines)))
    client = balancer(a).client()
    message = client.get()
    gone = {line.partition(":")[0].lower().encode() for line in lines[:-1]}
    assert gone.isdisjoint(message.names)
    assert message.get(b"x-kept") == b"4"
    assert client.get().status == 200


@pytest.mark.parametrize(
    "name",
    ["Host", "Content-Length", "Transfer-Encoding", "X-Forwarded-For", "X-Forwarded-Proto", "Via", "X-Request-Id"],
)
def test_connection_cannot_remove_what_is_ours(name: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    message = forwarded(balancer, endpoint, request("POST", "/", f"Connection: close, {name}", body=b"abc"))
    assert message.body == b"abc"
    for needed in (b"host", b"content-length", b"x-forwarded-for", b"x-forwarded-proto", b"via", b"x-request-id"):
        assert message.get(needed) is not None


CLAIMS = [
    "Forwarded: for=6.6.6.6;proto=https",
    "X-Forwarded-For: 6.6.6.6",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: evil.test",
    "X-Forwarded-Port: 443",
    "X-Forwarded-Server: evil",
    "X-Forwarded-Prefix: /evil",
    "X-Forwarded-Anything: 6.6.6.6",
    "X-Real-IP: 6.6.6.6",
    # What CGI and WSGI read as the same names.
    "X_Forwarded_For: 6.6.6.6",
    "X_Forwarded-Proto: https",
    "X_Real_IP: 6.6.6.6",
]


def test_what_a_client_claims_is_dropped(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    message = forwarded(balancer, endpoint, request("GET", "/", *CLAIMS))
    assert b"evil" not in message.raw_head
    assert b"6.6.6.6" not in message.raw_head
    assert message.get(b"x-forwarded-for") == b"127.0.0.1"
    assert message.get(b"x-forwarded-proto") == b"http"
    assert message.get(b"x-forwarded-host") == b"example.test"
    assert message.get(b"forwarded") is None
    assert message.get(b"x-real-ip") is None


@pytest.mark.parametrize(
    ("sent", "got"),
    [
        ([], [b"1.1 podlb"]),
        (["Via: 1.0 fred"], [b"1.0 fred", b"1.1 podlb"]),
        (["Via: 1.0 fred, 1.1 x", "Via: 1.1 y"], [b"1.0 fred, 1.1 x", b"1.1 y", b"1.1 podlb"]),
    ],
)
def test_via(sent: list[str], got: list[bytes], balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    assert forwarded(balancer, endpoint, request("GET", "/", *sent)).all(b"via") == got


@pytest.mark.parametrize("kept", ["a", "0123-4567~!", "x" * 128])
def test_a_request_id_is_kept(kept: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    message = forwarded(balancer, endpoint, request("GET", "/", f"X-Request-ID: {kept}"))
    assert message.get(b"x-request-id") == kept.encode()


@pytest.mark.parametrize("bad", [[], ["x" * 129], ["a b"], [""], ["\xe9"], ["a", "b"], ["a\tb"]], ids=repr)
def test_a_request_id_is_made(bad: list[str], balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    client = balancer(a).client()
    raw = request("GET", "/", *[f"X-Request-Id: {value}" for value in bad])
    assert [client.exchange(raw).status for _ in range(3)] == [200] * 3
    ids = [m.get(b"x-request-id") for m in a.requests]
    assert all(value is not None and re.fullmatch(rb"[0-9a-f]{24}", value) for value in ids), ids
    assert len(set(ids)) == 3


def test_underscores_do_not_smuggle_a_request_id(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    message = forwarded(balancer, endpoint, request("GET", "/", "X_Request_Id: forged"))
    assert b"forged" not in message.raw_head


@pytest.mark.parametrize(
    ("raw", "target", "host"),
    [
        (request("GET", "http://other.test/a?b"), b"/a?b", b"other.test"),
        (request("GET", "HTTP://other.test:81"), b"/", b"other.test:81"),
        (request("GET", "http://other.test?b"), b"/?b", b"other.test"),
        (request("OPTIONS", "*"), b"*", b"example.test"),
        (request("OPTIONS", "http://other.test"), b"*", b"other.test"),
        (request("GET", "//a//b/../c;d?e?f"), b"//a//b/../c;d?e?f", b"example.test"),
        (request("GET", "/", host="[::1]:8080"), b"/", b"[::1]:8080"),
        (request("GET", "/%00%0d%0a"), b"/%00%0d%0a", b"example.test"),
    ],
)
def test_targets(raw: bytes, target: bytes, host: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    message = forwarded(balancer, endpoint, raw)
    assert (message.target, message.get(b"host")) == (target, host)
    assert message.get(b"x-forwarded-host") == host


def test_http_1_0_with_and_without_host(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a, b = endpoint(), endpoint()
    lb = balancer(a, b)
    for _ in range(2):
        client = lb.client()
        client.send(b"GET / HTTP/1.0\r\nX-Forwarded-Host: evil.test\r\n\r\n")
        assert client.read_response().status == 200
    for each in (a, b):
        (message,) = each.requests
        assert message.get(b"host") == f"127.0.0.1:{each.port}".encode(), "each its own"
        assert message.get(b"x-forwarded-host") is None
    client = lb.client()
    client.send(b"GET / HTTP/1.0\r\nHost: old.test\r\n\r\n")
    assert client.read_response().status == 200
    assert [m.get(b"host") for m in a.requests + b.requests].count(b"old.test") == 1


def test_response_fields_are_passed_on_in_order(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    lines = ["Set-Cookie: a=1", "Server: x", "Set-Cookie: b=2; Path=/", "Date: yesterday", "Via: 1.1 inner", "X-Empty:"]
    a = endpoint(respond(response(b"ok", *lines, status="404 Not  Here")))
    message = balancer(a).client().get()
    assert message.status == 404
    assert message.start[2] == b"Not  Here"
    assert [f for f in message.fields if f[0] != b"content-length"] == [
        (b"set-cookie", b"a=1"),
        (b"server", b"x"),
        (b"set-cookie", b"b=2; Path=/"),
        (b"date", b"yesterday"),
        (b"via", b"1.1 inner"),
        (b"x-empty", b""),
    ]


def test_a_missing_date_is_added(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    date = balancer(endpoint()).client().get().get(b"date")
    assert date is not None
    assert re.fullmatch(rb"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", date)


def test_identical_heads_are_not_mixed_up(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    # Heads are remembered: the same bytes again, and others that differ in one place, over two connections.
    a = endpoint()
    lb = balancer(a)
    clients = [lb.client(), lb.client()]
    heads = [request("GET", f"/{n % 3}", f"X-N: {n % 2}") for n in range(12)]
    for n, raw in enumerate(heads):
        assert clients[n % 2].exchange(raw).status == 200
    assert [m.target for m in a.requests] == [b"/%d" % (n % 3) for n in range(12)]
    assert [m.get(b"x-n") for m in a.requests] == [b"%d" % (n % 2) for n in range(12)]
    assert len({m.get(b"x-request-id") for m in a.requests}) == 12


def test_ipv4_client_of_a_dual_stack_listener(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    lb = balancer(a, host="::")
    assert lb.client().get().status == 200
    assert a.requests[0].get(b"x-forwarded-for") == b"127.0.0.1"
