"""Bodies both ways: how they are framed, that they arrive whole, and that connections are kept where they can be."""

from __future__ import annotations

import os
import threading

import pytest

from tests.fakes import chunked, eventually, pieces, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import (
    Connection,
    close,
    respond,
    respond_and_close,
    respond_by_bytes,
    respond_when,
    response,
)

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: x/y\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = bytes(range(256)) * 3
LARGE = os.urandom(1 << 20)

# What the endpoint sends, the body the client must see, and whether the endpoint's connection can be used again.
RESPONSES = {
    "length": (response(BODY), BODY, True),
    "length 0": (response(b""), b"", True),
    "length, in mixed case": (HEAD + b"cOnTeNt-LeNgTh: 3\r\n\r\nabc", b"abc", True),
    "chunked": (CHUNKED + chunked(BODY, b"x"), BODY + b"x", True),
    "chunked, empty": (CHUNKED + chunked(), b"", True),
    "chunked, in capitals": (HEAD + b"Transfer-Encoding: CHUNKED\r\n\r\n" + chunked(BODY), BODY, True),
    "chunked, with extensions": (CHUNKED + b'3;a=b;c="d e"\r\nabc\r\n0;last\r\n\r\n', b"abc", True),
    "chunked, with leading zeros and capitals": (CHUNKED + b"000A\r\n0123456789\r\n00\r\n\r\n", b"0123456789", True),
    "chunked, with trailers": (CHUNKED + chunked(b"abc", trailers=b"Digest: 1\r\nContent-Length: 9\r\n"), b"abc", True),
    "until close": (HEAD + b"\r\n" + BODY, BODY, False),
    "until close, empty": (HEAD + b"\r\n", b"", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\n" + BODY, BODY, False),
    "HTTP/1.0 with a length": (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc", False),
    "length and chunked": (
        HEAD + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"a"),
        b"a",
        False,
    ),
    "no reason phrase": (b"HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\nx", b"x", True),
}


@pytest.mark.parametrize("cut", ["whole", "bytes"])
@pytest.mark.parametrize("name", RESPONSES)
def test_response(name: str, cut: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    raw, body, is_reusable = RESPONSES[name]
    until_close = b"Content-Length" not in raw and b"cOnTeNt" not in raw and b"Transfer-Encoding" not in raw

    def answer(connection: Connection, message: object) -> None:
        connection.send(*([raw] if cut == "whole" else pieces(raw)))
        if until_close:
            connection.close()

    a = endpoint(default=answer)
    lb = balancer(a)
    client = lb.client()
    for _ in range(2):
        message = client.get()
        assert (message.status, message.body) == (200, body)
        assert message.get(b"connection") is None, "the client may go on whatever the endpoint does"
        assert message.get(b"content-type") == (b"x/y" if b"x/y" in raw else None)
        assert (message.get(b"transfer-encoding") is None) != (until_close or b"ransfer-Encoding" in raw)
    assert len(a.connections) == (1 if is_reusable else 2)
    assert lb.ends() == {"ok": 2}


@pytest.mark.parametrize("name", RESPONSES)
def test_response_to_an_http_1_0_client(name: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    raw, body, _ = RESPONSES[name]
    a = endpoint(default=respond_and_close(raw))
    client = balancer(a).client()
    client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    message = client.read_response()
    assert (message.status, message.body) == (200, body)
    assert message.get(b"transfer-encoding") is None, "HTTP/1.0 knows no chunks"
    assert message.get(b"connection") == b"close"
    assert client.how_closed() == "fin"
    assert a.requests[0].get(b"host") == f"127.0.0.1:{a.port}".encode()
    assert a.requests[0].get(b"via") == b"1.0 podlb"


def test_trailers_are_passed_on_but_not_all(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    trailers = (
        b"X-Checksum: 1\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\nSet-Cookie: a=b\r\nHost: y\r\nETag: z\r\n"
    )
    a = endpoint(respond(CHUNKED + chunked(b"abc", trailers=trailers)))
    client = balancer(a).client()
    raw = request("POST", "/", "Transfer-Encoding: chunked") + chunked(b"abc", trailers=trailers + b"X-Real-IP: 1\r\n")
    assert client.exchange(raw).trailers == [(b"x-checksum", b"1"), (b"etag", b"z")]
    assert a.requests[0].trailers == [(b"x-checksum", b"1"), (b"etag", b"z")]


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        ("HEAD", HEAD + b"Content-Length: 12345\r\n\r\n"),
        ("HEAD", HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
        ("HEAD", HEAD + b"\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("POST", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 12345\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
)
def test_responses_without_a_body(method: str, raw: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint(*[respond(raw)] * 3)
    client = balancer(a).client()
    for _ in range(3):
        message = client.exchange(request(method, body=b"x" if method == "POST" else None))
        assert message.status == int(raw[9:12])
        assert message.get(b"content-length") == (b"12345" if b"12345" in raw else None), "what there would have been"
    assert client.get().body == b"ok"
    assert len(a.requests) == 4
    # An endpoint that does not say how the body of GET is framed may be one that closes; the others are reused.
    assert len(a.connections) == 1 or raw == HEAD + b"\r\n"


REQUEST_BODIES = {
    "length": (request("POST", body=BODY), BODY),
    "length 0": (request("POST", body=b""), b""),
    "length with leading zeros": (request("POST", "/", "Content-Length: 0003") + b"abc", b"abc"),
    "get with a body": (request("GET", body=BODY), BODY),
    "delete with a body": (request("DELETE", body=b"x"), b"x"),
    "chunked": (request("PUT", "/", "Transfer-Encoding: chunked") + chunked(BODY, b"x", BODY), BODY + b"x" + BODY),
    "chunked, empty": (request("PUT", "/", "Transfer-Encoding: chunked") + chunked(), b""),
    "chunked, in mixed case": (request("PUT", "/", "transfer-encoding: ChUnKeD") + chunked(BODY), BODY),
    "chunked, with extensions": (
        request("PUT", "/", "Transfer-Encoding: chunked") + b'3 ; a = "b"\r\nabc\r\n00\r\n\r\n',
        b"abc",
    ),
    "none": (request("POST"), b""),
}


@pytest.mark.parametrize("cut", ["whole", "bytes"])
@pytest.mark.parametrize("name", REQUEST_BODIES)
def test_request(name: str, cut: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    raw, body = REQUEST_BODIES[name]
    a = endpoint()
    client = balancer(a).client()
    for _ in range(2):
        client.send(*([raw] if cut == "whole" else pieces(raw)))
        assert client.read_response("GET").status == 200
    assert [m.body for m in a.requests] == [body, body]
    assert len(a.connections) == 1
    head = a.requests[0]
    assert head.method == raw.partition(b" ")[0]
    assert (head.get(b"transfer-encoding") == b"chunked") == name.startswith("chunked")
    length = head.get(b"content-length")
    assert (length is not None) == (not name.startswith("chunked") and name != "none")
    assert length is None or int(length) == len(body)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_large_bodies_both_ways(framing: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    if framing == "length":
        answer, raw = response(LARGE), request("POST", body=LARGE)
    else:
        cut = chunked(*pieces(LARGE, 30_000))
        answer, raw = CHUNKED + cut, request("POST", "/", "Transfer-Encoding: chunked") + cut
    a = endpoint(default=respond(answer))
    client = balancer(a).client()
    for _ in range(2):
        assert client.exchange(raw).body == LARGE
    assert [m.body for m in a.requests] == [LARGE, LARGE]
    assert len(a.connections) == 1


def test_pipelined_requests_are_answered_in_order(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    first = threading.Event()
    a = endpoint(respond_when(first, response(b"0")), name="a")
    b = endpoint(default=lambda connection, message: connection.send(response(message.target[1:])))
    a.default = b.default
    lb = balancer(a)
    client = lb.client()
    raws = [request("GET", f"/{n}") if n % 3 else request("POST", f"/{n}", body=BODY) for n in range(10)]
    client.send(b"".join(raws))
    a.wait_for_requests(1)
    assert client.is_silent()
    assert len(a.heads) == 1, "the next is not begun before the first is answered"
    first.set()
    assert [client.read_response().body for _ in range(10)] == [b"%d" % n for n in range(10)]
    assert [m.target for m in a.requests] == [b"/%d" % n for n in range(10)]
    assert [m.body for m in a.requests] == [b"" if n % 3 else BODY for n in range(10)]


def test_pipelined_byte_by_byte(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint(default=lambda connection, message: connection.send(response(message.target[1:])))
    client = balancer(a).client()
    raws = [request("GET", "/0"), request("POST", "/1", body=b"abc"), b"\r\n", request("GET", "/2")]
    raws.insert(1, request("PUT", "/x", "Transfer-Encoding: chunked") + chunked(b"abc", b"d"))
    client.send(*pieces(b"".join(raws)))
    assert [client.read_response().body for _ in range(4)] == [b"0", b"x", b"1", b"2"]
    assert [m.body for m in a.requests] == [b"", b"abcd", b"abc", b""]


def test_a_long_pipeline(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    # More than is read ahead: the rest waits in the client's kernel until its turn.
    a = endpoint(default=lambda connection, message: connection.send(response(message.target[1:])))
    client = balancer(a).client()
    count = 600
    raw = b"".join(request("GET", f"/{n}", "X-Filler: " + "x" * 500) for n in range(count))
    sender = threading.Thread(target=client.send, args=(raw,))
    sender.start()
    assert [client.read_response().body for _ in range(count)] == [b"%d" % n for n in range(count)]
    sender.join()
    assert len(a.requests) == count


@pytest.mark.parametrize("extra", [b"x", b"\r\n", response(b"smuggled")])
@pytest.mark.parametrize("when", ["with it", "with its end", "later"])
def test_bytes_behind_a_response_are_never_taken_for_the_next(
    when: str, extra: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    seen = threading.Event()
    raw = response(b"1234")
    first, second = {
        "with it": (raw + extra, b""),
        "with its end": (raw[:-2], raw[-2:] + extra),
        "later": (raw, extra),
    }[when]

    def answer(connection: Connection, message: object) -> None:
        connection.send(first)
        assert seen.wait(5)
        connection.send(second)

    a = endpoint(answer, default=respond(response(b"next")))
    lb = balancer(a)
    client = lb.client()
    client.send(request())
    assert client.stream.take_through(b"12")
    if when == "later":
        eventually(lambda: lb.idle(a.value) == 1, "idling")
    seen.set()
    assert client.stream.take_through(b"34")
    assert a.wait_for_end(0) in ("fin", "reset")
    assert lb.idle(a.value) == 0
    assert client.get().body == b"next"
    assert [c.requests for c in a.connections] == [1, 1]


def test_http_1_1_close(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    client = balancer(a).client()
    client.send(request("GET", "/", "Connection: close") + request())
    assert client.read_response().get(b"connection") == b"close"
    assert client.how_closed() == "fin"
    assert len(a.heads) == 1, "what comes behind a close is not answered"


def test_an_endpoint_that_closes_a_head_early_gets_the_next_attempt_elsewhere(
    balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a, b = endpoint(default=close), endpoint(default=respond_by_bytes(response(BODY), 7))
    client = balancer(a, b).client()
    assert [client.get().body for _ in range(2)] == [BODY, BODY]
    assert [len(a.requests), len(b.requests)] == [1, 2]


@pytest.mark.parametrize("name", ["length", "chunked, with extensions", "until close"])
def test_a_response_in_two_segments_cut_anywhere(name: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    raw = RESPONSES[name][0].replace(BODY, b"abc").replace(b"Content-Length: 768", b"Content-Length: 3")
    cut = 1
    begun, goes_on = threading.Event(), threading.Event()

    def answer(connection: Connection, message: object) -> None:
        connection.send(raw[:cut])
        begun.set()
        assert goes_on.wait(5)
        connection.send(raw[cut:])
        if name == "until close":
            connection.close()

    a = endpoint(default=answer)
    lb = balancer(a)
    client = lb.client()
    for cut in range(1, len(raw)):
        begun.clear()
        goes_on.clear()
        client.send(request())
        assert begun.wait(5)
        for _ in range(2):  # a turn of the loop, and one more
            lb.call(lambda: None)
        goes_on.set()
        message = client.read_response()
        assert (message.status, message.body) == (200, b"abc"), raw[:cut]
    assert len(a.requests) == len(raw) - 1


@pytest.mark.parametrize("raw", [request(), request("POST", body=b"abc")], ids=["get", "post"])
def test_a_request_in_two_segments_cut_anywhere(raw: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    lb = balancer(a)
    client = lb.client()
    for cut in range(1, len(raw)):
        with lb.frozen():
            client.send(raw[:cut])
        for _ in range(2):  # a turn of the loop, and one more
            lb.call(lambda: None)
        client.send(raw[cut:])
        assert client.read_response().status == 200, f"cut behind {raw[:cut]!r}"
    assert len(a.requests) == len(raw) - 1
    assert len(a.connections) == 1
