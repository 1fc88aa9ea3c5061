"""The load generator tells a whole answer from every other end, and never sends twice."""

from __future__ import annotations

import json
import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from backend.parameters import filler
from tests.drills.deliveries import Readings
from tests.drills.load import BODY, LARGE, Kind, Load, Request, flaw, plan
from tests.fakes import Stream, free_port, read_request_body, read_request_head
from tests.integration.processes import Backend, LoadBalancer

RATE = 400.0
ROUND = 16 / RATE
"""Seconds in which every mixture was sent."""
PATIENCE = 0.4

Answer = Callable[[socket.socket, str, str], bool]
"""Answers a method and a target; returns whether the connection goes on."""


def whole(method: str, target: str) -> bytes:
    """What our backend answers."""
    if target.startswith("/data"):
        body = filler(0, 65472) + filler(65472, LARGE - 65472)
    else:
        body = json.dumps(
            {"method": method, "target": target, "bodyLength": len(BODY) if method == "POST" else 0}
        ).encode()
    return with_length(body)


def with_length(body: bytes, status: str = "200 OK", *lines: str, length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {length}", *lines, "", ""]).encode() + body


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answer: Answer) -> None:
        self.connections = 0
        self.targets: list[str] = []
        self.over = threading.Event()
        super().__init__(("127.0.0.1", 0), _handler(answer))


def _handler(answer: Answer) -> type[socketserver.BaseRequestHandler]:
    class Handler(socketserver.BaseRequestHandler):
        server: Server

        def handle(self) -> None:
            self.server.connections += 1
            stream = Stream(self.request)
            try:
                while (head := read_request_head(stream)) is not None:
                    read_request_body(stream, head)
                    assert len(head.body) in (0, len(BODY))
                    target = head.target.decode()
                    self.server.targets.append(target)
                    if not answer(self.request, head.method.decode(), target):
                        return
            except OSError:
                return

    return Handler


@contextmanager
def serving(answer: Answer) -> Iterator[Server]:
    with Server(answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


def sent(port: int, seconds: float = ROUND) -> list[Request]:
    load = Load("127.0.0.1", port, "test", rate=RATE, patience=PATIENCE)
    load.start()
    try:
        load.run_on(seconds)
    finally:
        requests = list(load.stop())
    assert load.unasked == 0
    assert len(requests) >= 16
    return requests


def test_every_mixture_is_in_sixteen_requests() -> None:
    requests = [plan("x", number, 0.0) for number in range(16)]
    mixtures = Counter((r.is_kept, r.method, r.is_large, r.is_chunked) for r in requests)
    small = {(kept, method, False, False): 2 for kept in (True, False) for method in ("GET", "POST")}
    large = {(k, m, True, chunked): 1 for k in (True, False) for m in ("GET", "POST") for chunked in (True, False)}
    assert mixtures == small | large
    assert len({request.target for request in requests}) == 16


def test_whole_answers() -> None:
    def answer(sock: socket.socket, method: str, target: str) -> bool:
        sock.sendall(whole(method, target))
        return True

    with serving(answer) as server:
        requests = sent(server.server_address[1], 0.2)
        assert {(r.kind, r.detail) for r in requests} == {(Kind.OK, "")}
        assert all(r.due <= r.written <= r.first_byte <= r.ended for r in requests)
        assert sorted(server.targets) == sorted(r.target for r in requests)
        alone = sum(not request.is_kept for request in requests)
        assert alone < server.connections < len(requests), "some were kept, and used again"


def test_latency_counts_from_the_instant_at_which_it_was_to_leave() -> None:
    request = plan("x", 0, due=10.0)
    request.written, request.ended = 10.5, 11.0
    assert request.latency == 1.0


def half(method: str, target: str) -> bytes:
    data = whole(method, target)
    return data[: len(data) // 2]


def chunks_without_an_end(method: str, target: str) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"


def nothing(method: str, target: str) -> bytes:
    return b""


def another(method: str, target: str) -> bytes:
    return whole(method, target + "0") if target.startswith("/echo") else with_length(b"x" * LARGE)


ENDS: dict[str, tuple[Callable[[str, str], bytes], str, Kind]] = {
    "nothing, then a FIN": (nothing, "fin", Kind.LOST),
    "nothing, then an RST": (nothing, "rst", Kind.LOST),
    "nothing, for ever": (nothing, "silence", Kind.TIMEOUT),
    "half, then a FIN": (half, "fin", Kind.TRUNCATED),
    "half, then an RST": (half, "rst", Kind.TRUNCATED),
    "half, then nothing": (half, "silence", Kind.TRUNCATED),
    "chunks without the last, then a FIN": (chunks_without_an_end, "fin", Kind.TRUNCATED),
    "half a head": (lambda method, target: b"HTTP/1.1 200 O", "fin", Kind.TRUNCATED),
    "short, and it looks complete": (lambda method, target: with_length(b"x" * 100), "keep", Kind.WRONG),
    "close-delimited, cut": (lambda method, target: b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 9, "fin", Kind.WRONG),
    "the answer to another": (another, "keep", Kind.WRONG),
    "more than the answer": (lambda method, target: whole(method, target) + b"HTTP/1.1", "keep", Kind.WRONG),
    "no HTTP": (lambda method, target: b"hello\r\n\r\n", "keep", Kind.WRONG),
    "503": (lambda method, target: with_length(b"later", "503 x", "Retry-After: 1"), "keep", Kind.STATUS),
}


@pytest.mark.parametrize("name", ENDS)
def test_other_ends(name: str) -> None:
    part, end, kind = ENDS[name]

    def answer(sock: socket.socket, method: str, target: str) -> bool:
        sock.sendall(part(method, target))
        if end == "silence":
            server.over.wait(5)
        elif end == "rst":
            # Behind its bytes: an RST takes what was not read yet with it, and this is about what was.
            time.sleep(0.02)
            reset(sock)
        return end == "keep"

    with serving(answer) as server:
        requests = sent(server.server_address[1])
        assert Counter(r.kind for r in requests) == {kind: len(requests)}, {(r.kind, r.detail) for r in requests}
        assert all(r.ended for r in requests)
        assert len(server.targets) == len(set(server.targets)) == len(requests), "nothing is sent twice"
        if kind is Kind.STATUS:
            assert {(r.status, r.retry_after, r.outcome, r.detail) for r in requests} == {(503, "1", "503", "later")}
        if end == "silence":
            assert all(PATIENCE <= r.latency < PATIENCE + 0.5 for r in requests)


def test_nobody_listens() -> None:
    requests = sent(free_port())
    assert {(r.kind, r.detail) for r in requests} == {(Kind.REFUSED, "Connection refused")}


def test_a_flaw_is_told() -> None:
    small, large = plan("x", 0, 0.0), plan("x", 4, 0.0)
    assert flaw(large, b"x") == f"1 bytes instead of {LARGE}"
    assert flaw(large, b"x" * LARGE) == "other bytes than the backend's"
    assert "not an echo" in flaw(small, b"[]")
    assert "another request" in flaw(small, json.dumps({"method": "GET", "target": "/", "bodyLength": 0}).encode())


def test_through_podlb_to_real_backends() -> None:
    with ExitStack() as stack:
        backends = [stack.enter_context(Backend("--log-requests")) for _ in range(2)]
        names = ",".join(f"127.0.0.1:{backend.port}" for backend in backends)
        lb = stack.enter_context(LoadBalancer(f"--backends={names}"))
        load = Load("127.0.0.1", lb.port, "real")
        load.start()
        try:
            load.run_on(1.0)
        finally:
            requests = load.stop()
        for backend in backends:
            backend.kill()
        readings = Readings("real")
        for backend in backends:
            readings.reading(str(backend.port), backend.lines)

        assert {(r.kind, r.detail) for r in requests} == {(Kind.OK, "")}
        assert all(r.latency > 0.02 for r in requests), "the service time is in there"
        assert sorted(readings.processes()) == sorted(r.id for r in requests), "each is in a log"
        assert readings.twice(r.id for r in requests) == []
        assert all("listening on" in log.first for log in readings.logs)
