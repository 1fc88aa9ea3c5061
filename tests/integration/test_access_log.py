"""The access log over real sockets: every exchange has its line, and what it says is true."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes import chunked, eventually, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint, MakeTunnels
from tests.integration.endpoint import close, respond, response
from tests.integration.harness import Balancer, Variant
from tests.integration.processes import LoadBalancer


def entries(lb: Balancer, count: int) -> list[dict[str, Any]]:
    """Wait for so many lines; return what they say."""
    eventually(lambda: len(lb.access_lines) >= count, f"{count} lines")
    lb.wait_until_idle()
    lb.call(lb.server.proxy.history.flush)
    assert len(lb.access_lines) == count
    return [json.loads(line) for line in lb.access_lines]


def test_a_usual_exchange(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint(default=respond(response(b"hello")))
    lb = balancer(a, access_log="json")
    client = lb.client()
    answers = [client.get("/one?a=1"), client.get("/two")]
    first, second = entries(lb, 2)
    for entry, target, answer, seen in zip((first, second), ("/one?a=1", "/two"), answers, a.requests, strict=True):
        assert (entry["client"], entry["method"], entry["target"]) == ("127.0.0.1", "GET", target)
        assert (entry["status"], entry["reason"], entry["endpoint"]) == (200, "ok", a.value.authority)
        assert (entry["bytesReceived"], entry["bytesSent"]) == (0, len(answer.raw_head) + len(answer.body))
        assert entry["attempts"] == []
        assert entry["requestId"].encode() == seen.get(b"x-request-id")
        assert 0 <= entry["queue"] <= entry["total"] < 5
        assert 0 <= entry["firstByte"] <= entry["total"]
    assert first["connect"] is not None
    assert second["connect"] is None, "on the connection of the first"


def test_bodies_are_counted(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    size = 3_000_000
    large = respond(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
    a = endpoint(large, respond(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"x" * 1000, b"y")))
    lb = balancer(a, access_log="json")
    client = lb.client(seconds=30)
    one = client.exchange(request("POST", body=b"x" * size))
    client.send(request("POST", "/", "Transfer-Encoding: chunked") + chunked(b"x" * 7, b"y" * 13))
    client.read_response("POST")
    first, second = entries(lb, 2)
    assert (first["bytesReceived"], first["bytesSent"]) == (size, len(one.raw_head) + size)
    assert second["bytesReceived"] == 20
    assert second["bytesSent"] > 1001


def test_the_attempts_that_failed(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    dead, closing, good = endpoint(is_up=False), endpoint(default=close), endpoint()
    lb = balancer(dead, closing, good, access_log="json")
    client = lb.client()
    for _ in range(3):
        assert client.get().status == 200
    found = entries(lb, 3)
    tried = [(attempt["endpoint"], attempt["outcome"]) for entry in found for attempt in entry["attempts"]]
    assert (dead.value.authority, "refused") in tried
    assert (closing.value.authority, "connection lost") in tried
    assert {entry["endpoint"] for entry in found} == {good.value.authority}


def test_what_podlb_answers_itself(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    lb = balancer(endpoint(is_up=False), access_log="json", endpoint_wait=0)
    client = lb.client()
    message = client.get()
    refused = lb.client().exchange(b"GET / HTTP/1.1\r\n\r\n")
    first, second = entries(lb, 2)
    assert (first["status"], first["reason"], first["queue"]) == (503, "connect_refused", None)
    assert first["bytesSent"] == len(message.raw_head) + len(message.body)
    assert first["requestId"] == json.loads(message.body)["requestId"]
    assert [attempt["outcome"] for attempt in first["attempts"]] == ["refused"]
    assert (second["status"], second["reason"], second["method"]) == (400, "bad_request:host", "-")
    assert second["requestId"] == json.loads(refused.body)["requestId"]
    assert lb.end_words() == {entry["reason"]: 1 for entry in (first, second)}


def test_options_that_go_no_further(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    lb = balancer(endpoint(), access_log="json")
    message = lb.client().exchange(request("OPTIONS", "*", "Max-Forwards: 0"))
    (entry,) = entries(lb, 1)
    assert (entry["method"], entry["status"], entry["reason"], entry["endpoint"]) == ("OPTIONS", 200, "ok", None)
    assert entry["bytesSent"] == len(message.raw_head) + len(message.body)
    assert entry["requestId"].encode() == message.get(b"x-request-id")


def test_a_client_that_leaves(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint(respond(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"))
    lb = balancer(a, access_log="json")
    client = lb.client()
    client.send(request())
    client.stream.take_through(b"half")
    client.reset()
    (entry,) = entries(lb, 1)
    assert (entry["status"], entry["reason"]) == (200, "client_gone")


@pytest.mark.any_parser
def test_a_tunnel(tunnels: MakeTunnels) -> None:
    tunnel = tunnels(access_log="json")
    client, peer = tunnel.open()
    client.send(b"x" * 1000)
    peer.stream.take(1000)
    peer.send(b"y" * 2000)
    client.stream.take(2000)
    client.fin()
    peer.fin()
    (entry,) = entries(tunnel.lb, 1)
    assert (entry["reason"], entry["bytesReceived"], entry["bytesSent"]) == ("ok", 1000, 2000)
    assert entry["client"] == "127.0.0.1"
    assert entry["endpoint"] == tunnel.port.value.authority


def test_a_share_of_them(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    lb = balancer(endpoint(), access_log="text", access_log_sample=0.5)
    client = lb.client()
    for _ in range(200):
        client.get()
    lb.wait_until_idle()
    lb.call(lb.server.proxy.history.flush)
    assert 50 < len(lb.access_lines) < 150
    none = balancer(endpoint(), access_log="text", access_log_sample=0.0)
    none.client().get()
    assert none.access_lines == []


def test_off_it_writes_nothing(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    lb = balancer(endpoint())
    lb.client().get()
    assert lb.access_lines == []
    assert lb.server.proxy.on_exchange_ended is None


@pytest.mark.one_variant
def test_of_a_process(variant: Variant, endpoint: MakeEndpoint) -> None:
    """Among the lines of its log, on stdout."""
    a = endpoint()
    with LoadBalancer(f"--backends=127.0.0.1:{a.port}", "--access-log=text", f"--loop={variant.loop}") as lb:
        client = lb.client()
        assert client.get("/from-outside").status == 200
        client.close()
        lb.wait_for(r'^[0-9T:.-]+Z 127\.0\.0\.1 "GET /from-outside HTTP/1\.1" 200 ok in=0 out=\d+ queue=')


def test_text(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    lb = balancer(a, access_log="text")
    lb.client().get('/"x')
    eventually(lambda: lb.access_lines, "the line")
    (line,) = lb.access_lines
    assert b' 127.0.0.1 "GET /\\x22x HTTP/1.1" 200 ok in=0 out=' in line
    assert line.endswith(b"\n")
