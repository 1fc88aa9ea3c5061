"""Our own replies: one of each status, read by the letter of RFC 9457 and RFC 9209."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from lb.errors import END_WORDS
from tests.fakes import Message, eventually, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import close, never, respond, response
from tests.integration.tunnels import ManualClock
from tests.test_errors import REGISTERED

pytestmark = pytest.mark.any_parser

FIELD = re.compile(rb'podlb; error=([a-z_]+); details="([a-z_]+(?::[a-z_]+)?)"')

REFUSED = {
    400: (b"GET / HTTP/1.1\r\n\r\n", "bad_request:host"),
    405: (request("TRACE"), "bad_request:method"),
    413: (request("POST", "/", "Content-Length: 1001"), "bad_request:body_too_large"),
    414: (request("GET", "/" + "a" * 8192), "bad_request:target_too_long"),
    417: (request("GET", "/", "Expect: more"), "bad_request:expect"),
    431: (request("GET", "/", "A: " + "a" * 40_000), "bad_request:head_too_large"),
    501: (request("POST", "/", "Transfer-Encoding: gzip, chunked"), "bad_request:transfer_encoding"),
    505: (b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", "bad_request:version"),
}


def check(message: Message, status: int, word: str) -> None:
    """Is it the reply that everybody is promised?"""
    assert message.status == status
    assert message.get(b"content-type") == b"application/problem+json"
    assert message.get(b"cache-control") == b"no-store"
    assert message.get(b"date") is not None
    assert b"<" not in message.body, "HTML never"
    problem = json.loads(message.body)
    assert problem.keys() == {"type", "title", "status", "detail", "reason", "requestId", "explain"}
    assert problem["explain"] == f"podlb why {problem['requestId']}"
    assert (problem["type"], problem["status"], problem["reason"]) == ("about:blank", status, word)
    assert problem["title"] in message.raw_head.decode().partition("\r\n")[0]
    assert problem["detail"]
    assert message.get(b"x-request-id") == problem["requestId"].encode()
    match = FIELD.fullmatch(message.get(b"proxy-status") or b"")
    assert match is not None
    assert match[1].decode() in REGISTERED
    assert match[2].decode() == word
    assert word in END_WORDS
    assert (message.get(b"allow") is not None) is (status == 405)
    assert (message.get(b"retry-after") is not None) is (status == 503)


@pytest.mark.parametrize("status", REFUSED)
def test_refused(status: int, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    raw, word = REFUSED[status]
    a = endpoint()
    lb = balancer(a, max_request_body_bytes=1000)
    client = lb.client()
    client.send(raw)
    message = client.read_response()
    check(message, status, word)
    assert message.get(b"connection") == b"close"
    assert client.how_closed() == "fin"
    assert a.connections == []
    assert lb.end_words() == {word: 1}


def test_405_says_what_is_allowed(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    lb = balancer(a)
    allowed = (lb.client().exchange(request("TRACE")).get(b"allow") or b"").decode().split(", ")
    assert {"GET", "HEAD", "POST"} <= set(allowed)
    assert not {"TRACE", "CONNECT"} & set(allowed)
    client = lb.client()
    for method in allowed:
        assert client.exchange(request(method)).status == 200


def test_408_of_a_head(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    clock = ManualClock()
    lb = balancer(endpoint(), clock=clock)
    client = lb.client()
    client.send(request()[:-1])
    eventually(lambda: any(c._inbox.data for c in lb.server.proxy.connections), "its beginning")
    clock.pass_(lb, 11)
    check(client.read_response(), 408, "request_timeout")


def test_408_of_a_body(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    clock = ManualClock()
    a = endpoint()
    lb = balancer(a, clock=clock)
    client = lb.client()
    client.send(request("POST", "/", "Content-Length: 5"))
    a.wait_for_heads(1)
    for _ in range(10):
        clock.pass_(lb, 16)
    check(client.read_response(), 408, "body_timeout")


@pytest.mark.parametrize(
    ("action", "word"),
    [
        (close, "reset_before_head"),
        (respond(b"nonsense\r\n\r\n"), "bad_response:start_line"),
        (respond(b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n"), "bad_response:content_length"),
    ],
)
def test_502(action: Callable[..., object], word: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    lb = balancer(endpoint(action), retries=0)
    message = lb.client().get()
    check(message, 502, word)
    assert message.get(b"connection") is None, "the client's connection is good"
    assert lb.end_words() == {word: 1}


def test_503_without_an_endpoint(balancer: MakeBalancer) -> None:
    message = balancer(endpoint_wait=0).client().get()
    check(message, 503, "no_endpoint")
    assert re.fullmatch(rb"[1-9][0-9]*", message.get(b"retry-after") or b"")


def test_503_while_too_many_wait(balancer: MakeBalancer) -> None:
    check(balancer(max_waiting=0).client().get(), 503, "waiting_limit")


def test_504(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    clock = ManualClock()
    a = endpoint(never)
    lb = balancer(a, clock=clock)
    client = lb.client()
    client.send(request())
    a.wait_for_requests(1)
    clock.pass_(lb, 61)
    message = client.read_response()
    check(message, 504, "response_timeout")
    assert message.get(b"connection") is None


def test_to_head_without_its_content(balancer: MakeBalancer) -> None:
    message = balancer(endpoint_wait=0).client().exchange(request("HEAD"))
    assert (message.status, message.body) == (503, b"")
    assert int(message.get(b"content-length") or 0) > 0
    assert FIELD.fullmatch(message.get(b"proxy-status") or b"")


def test_to_http_1_0_with_a_close(balancer: MakeBalancer) -> None:
    client = balancer(endpoint_wait=0).client()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    message = client.read_response()
    check(message, 503, "no_endpoint")
    assert message.get(b"connection") == b"close"
    assert client.how_closed() == "fin"


def test_nothing_that_was_sent_is_repeated(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    lb = balancer(endpoint())
    for raw in (
        request("GET", "/", "X-Request-Id: <script>alert(1)</script>", "Expect: <script>"),
        b"GET /<script> HTTP/1.1\r\nHost: <script>\r\n\r\n",
        b"<script> / HTTP/1.1\r\n\r\n",
    ):
        message = lb.client().exchange(raw, "GET")
        assert message.status in (400, 417)
        assert b"script" not in message.raw_head + message.body


def test_an_endpoints_own_errors_are_not_ours(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    for status in ("400 Bad Request", "408 Request Timeout", "502 Bad Gateway", "503 Busy", "504 Late"):
        a = endpoint(default=respond(response(b"<html>", "Content-Type: text/html", status=status)))
        message = balancer(a).client().get()
        assert (message.status, message.body) == (int(status[:3]), b"<html>")
        assert message.get(b"proxy-status") is None
