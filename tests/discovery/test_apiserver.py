"""Questions to an API server, and how they come to nothing."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from kubernetes.client.configuration import Configuration

from lb.discovery import apiserver
from lb.discovery.apiserver import ApiServer
from lb.discovery.interrupter import DaemonExecutor, InterruptedByStop, Interrupter
from lb.discovery.watcher import Failure, StatusError, Trouble
from tests.discovery.test_interrupter import PROMPTLY, connecting_to
from tests.fakes import DEADLINE, Message, chunked, eventually, free_port
from tests.integration.endpoint import (
    Action,
    Connection,
    Endpoint,
    close,
    never,
    reset,
    respond,
    respond_and_close,
    response,
)
from tests.integration.ports import BlackHole

PATH = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Rig:
    """An API server in the test's hands, and what asks it."""

    def __init__(self, *actions: Action, token: str = "") -> None:
        self.interrupter = Interrupter()
        self.endpoint = Endpoint(*actions)
        self.server = ApiServer(self._configuration(self.endpoint.port, token), self.interrupter)

    @staticmethod
    def _configuration(port: int, token: str = "") -> Configuration:
        configuration = Configuration(host=f"http://127.0.0.1:{port}")
        if token:
            configuration.api_key = {"authorization": f"Bearer {token}"}
        return configuration

    def get(self, **options: Any) -> bytes:
        return self.server.get(PATH, {"limit": "500"}, **({"read_seconds": DEADLINE} | options))

    def stream(self, **options: Any) -> Iterator[list[bytes]]:
        return self.server.stream(PATH, {"watch": "1"}, **({"read_seconds": DEADLINE} | options))

    def lines(self) -> list[bytes]:
        return [line for batch in self.stream() for line in batch]

    def failure(self, call: Callable[[], object] | None = None) -> Failure:
        with pytest.raises(StatusError) as found:
            (call or self.get)()
        return found.value.failure

    def stop(self) -> None:
        self.server.close()
        self.endpoint.stop()
        assert not self.interrupter._handles, "a handle was left"


@pytest.fixture
def rig() -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(*actions: Action, **options: Any) -> Rig:
        made.append(Rig(*actions, **options))
        return made[-1]

    yield make
    for each in made:
        each.stop()


MakeRig = Callable[..., Rig]


class TestGet:
    def test_what_is_asked(self, rig: MakeRig) -> None:
        it = rig(respond(response(b"{}")), token="secret")
        parameters = {"labelSelector": "kubernetes.io/service-name=a", "limit": "500"}
        assert it.server.get(PATH, parameters, DEADLINE) == b"{}"
        (asked,) = it.endpoint.requests
        assert asked.start[:2] == (
            b"GET",
            PATH.encode() + b"?labelSelector=kubernetes.io%2Fservice-name%3Da&limit=500",
        )
        assert asked.get(b"authorization") == b"Bearer secret"
        assert asked.get(b"accept") == b"application/json"
        assert asked.get(b"user-agent") == b"podlb"

    def test_one_connection_serves_one_question_after_the_other(self, rig: MakeRig) -> None:
        it = rig(respond(response(b"1")), respond(CHUNKED + chunked(b"2")), respond(response(b"3")))
        assert [it.get() for _ in range(3)] == [b"1", b"2", b"3"]
        assert len(it.endpoint.connections) == 1

    def test_one_that_was_closed_meanwhile_is_replaced(self, rig: MakeRig) -> None:
        it = rig(respond_and_close(response(b"1")), respond(response(b"2")))
        assert it.get() == b"1"
        eventually(lambda: it.endpoint.connections[0].is_closed, "the close")
        assert it.get() == b"2"

    @pytest.mark.parametrize(
        ("status", "trouble"),
        [
            ("401 Unauthorized", Trouble.UNAUTHORIZED),
            ("403 Forbidden", Trouble.FORBIDDEN),
            ("404 Not Found", Trouble.ERROR),
            ("410 Gone", Trouble.GONE),
            ("500 Internal Server Error", Trouble.ERROR),
        ],
    )
    @pytest.mark.parametrize("call", ["get", "lines"])
    def test_a_refusal_is_told_in_the_server_s_words(
        self, rig: MakeRig, status: str, trouble: Trouble, call: str
    ) -> None:
        it = rig(respond(response(b'{"message":"its words"}', status=status)))
        assert it.failure(getattr(it, call)) == Failure(trouble, "its words")

    @pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
    def test_when_to_come_back_is_told_and_not_slept(self, rig: MakeRig, status: str) -> None:
        it = rig(respond(response(b"", "Retry-After: 60", status=status)))
        began = time.monotonic()
        assert it.failure() == Failure(Trouble.THROTTLED, f"status {status[:3]}", 60.0)
        assert time.monotonic() - began < DEADLINE
        assert len(it.endpoint.requests) == 1

    def test_a_redirect_is_not_followed(self, rig: MakeRig) -> None:
        it = rig(respond(response(b"", "Location: /elsewhere", status="302 Found")), token="secret")
        assert it.failure() == Failure(Trouble.ERROR, "status 302")
        assert len(it.endpoint.requests) == 1

    @pytest.mark.parametrize(
        "action",
        [
            close,
            reset,
            respond_and_close(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"),
            respond_and_close(CHUNKED + b"5\r\n12345\r\n"),
            respond_and_close(b"garbage\r\n\r\n"),
        ],
        ids=["fin", "rst", "half a body", "half of the chunks", "no HTTP"],
    )
    def test_a_cut_is_not_tried_again_here(self, rig: MakeRig, action: Action) -> None:
        it = rig(action)
        assert it.failure() == Failure(Trouble.CUT, "the connection broke")
        assert len(it.endpoint.requests) == 1

    def test_a_mute_server(self, rig: MakeRig) -> None:
        for action in (never, respond(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")):
            it = rig(action)
            assert it.failure(lambda it=it: it.get(read_seconds=0.05)) == Failure(Trouble.TIMEOUT, "it does not answer")
            assert len(it.endpoint.requests) == 1

    def test_one_that_answers_drop_by_drop(self, rig: MakeRig) -> None:
        gone = threading.Event()

        def drip(connection: Connection, message: Message) -> None:
            connection.send(CHUNKED)
            with suppress(ConnectionError):
                while not gone.wait(0.02):
                    connection.send(b"1\r\n \r\n")

        it = rig(drip)
        try:
            failure = it.failure(lambda: it.get(read_seconds=0.2))
        finally:
            gone.set()
        assert failure == Failure(Trouble.TIMEOUT, "it does not come to an end")

    def test_one_that_closes_behind_each_answer(self, rig: MakeRig) -> None:
        it = rig(*[respond_and_close(response(b"{}", "Connection: close"))] * 3)
        for _ in range(3):
            assert it.get() == b"{}"
            assert len(it.interrupter._handles) <= 1
        assert len(it.endpoint.connections) == 3

    def test_nobody_there(self, rig: MakeRig) -> None:
        it = rig()
        it.endpoint.stop_listening()
        assert it.failure() == Failure(Trouble.UNREACHABLE, "Connection refused")

    def test_a_connect_that_is_swallowed(self, rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(apiserver, "CONNECT_SECONDS", 0.05)
        it = rig()
        it.endpoint.swallow()
        assert it.failure() == Failure(Trouble.UNREACHABLE, "no connection within 0.05 s")

    def test_a_name_that_is_not_known(self, rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        it = rig()
        monkeypatch.setattr(socket, "getaddrinfo", fail)
        failure = it.failure()
        assert failure.trouble is Trouble.UNREACHABLE
        assert "Name or service not known" in failure.text

    def test_of_several_addresses_the_next_is_tried(self, rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
        it = rig(respond(response(b"{}")))
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in (free_port(), it.endpoint.port)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert it.get() == b"{}"

    def test_a_server_that_vanished_is_noticed_by_the_kernel(self, rig: MakeRig) -> None:
        it = rig(never)
        DaemonExecutor().submit(it.get)
        eventually(lambda: it.interrupter._handles, "the connection")
        it.endpoint.wait_for_requests(1)
        (handle,) = it.interrupter._handles
        assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
        it.interrupter.stop()
        eventually(lambda: not it.interrupter._handles, "the end")


class TestStream:
    def test_lines_as_they_come(self, rig: MakeRig) -> None:
        goes_on = threading.Event()

        def action(connection: Connection, message: Message) -> None:
            connection.send(CHUNKED + b'6\r\n{"a":1\r\n')
            assert goes_on.wait(DEADLINE)
            connection.send(b"c\r\n}\n{}\n\n \r\n{}\n\r\n2\r\n[]\r\n0\r\n\r\n")

        it = rig(action)
        batches = it.stream()
        assert next(batches) == [], "it began"
        goes_on.set()
        assert [line for batch in batches for line in batch] == [b'{"a":1}', b"{}", b"{}"]

    def test_one_connection_serves_one_watch_after_the_other(self, rig: MakeRig) -> None:
        it = rig(*[respond(CHUNKED + chunked(b"{}\n"))] * 3)
        assert [it.lines() for _ in range(3)] == [[b"{}"]] * 3
        assert len(it.endpoint.connections) == 1

    @pytest.mark.parametrize("action", [respond_and_close(CHUNKED + b"5\r\n{}\n{\r\n"), close, reset])
    def test_a_cut(self, rig: MakeRig, action: Action) -> None:
        it = rig(action)
        seen: list[bytes] = []

        def read() -> None:
            for batch in it.stream():
                seen.extend(batch)

        assert it.failure(read) == Failure(Trouble.CUT, "the connection broke")
        assert seen in ([], [b"{}"])

    def test_a_mute_server(self, rig: MakeRig) -> None:
        for data in (b"", CHUNKED, CHUNKED + b"3\r\n{}\n\r\n"):
            it = rig(respond(data))
            failure = it.failure(lambda it=it: list(it.stream(read_seconds=0.05)))
            assert failure == Failure(Trouble.TIMEOUT, "it does not answer")

    def test_a_line_without_end(self, rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(apiserver, "_LINE_LIMIT", 1000)
        it = rig(respond(response(b"x" * 999 + b"\n" + b"x" * 999)), respond(response(b"x" * 100_000)))
        assert it.lines() == [b"x" * 999]
        assert it.failure(it.lines) == Failure(Trouble.GARBLED, "a line of more than 1000 bytes")

    def test_one_that_is_given_up_gives_up_its_connection(self, rig: MakeRig) -> None:
        it = rig(respond(CHUNKED + b"3\r\n{}\n\r\n"), respond(response(b"{}")))
        batches = it.stream()
        assert [next(batches), next(batches)] == [[], [b"{}"]]
        batches.close()  # type: ignore[attr-defined]
        assert it.endpoint.wait_for_end(0) in ("fin", "reset")
        # The rest of the watch is not taken for the next answer.
        assert it.get() == b"{}"


class TestInterrupted:
    @pytest.mark.parametrize(
        "action",
        [
            never,
            respond(CHUNKED),
            respond(CHUNKED + b"3\r\n{}\n\r\n"),
            respond(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}\n"),
        ],
        ids=["no answer", "no line", "no more lines", "until it closes"],
    )
    @pytest.mark.parametrize("call", ["get", "lines"])
    def test_while_it_reads(self, rig: MakeRig, action: Action, call: str) -> None:
        it = rig(action)
        future = DaemonExecutor().submit(getattr(it, call))
        it.endpoint.wait_for_requests(1)
        self._stop(it, future)

    def test_while_it_connects(self, rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
        if not BlackHole.is_possible:
            pytest.skip("only Linux tells how full the queue of a listening socket is")
        monkeypatch.setattr(apiserver, "CONNECT_SECONDS", 60.0)
        it = rig()
        it.endpoint.swallow()
        before = connecting_to(it.endpoint.port)
        future = DaemonExecutor().submit(it.get)
        eventually(lambda: connecting_to(it.endpoint.port) > before, "the connect")
        self._stop(it, future)

    def test_while_it_greets(self, rig: MakeRig) -> None:
        greeted = threading.Event()

        def script(connection: Connection) -> None:
            assert connection.stream.fill()
            greeted.set()
            connection.wait_for_end()

        it = rig()
        it.endpoint._script = script
        configuration = Configuration(host=f"https://127.0.0.1:{it.endpoint.port}")
        it.server = ApiServer(configuration, it.interrupter)
        future = DaemonExecutor().submit(it.get)
        assert greeted.wait(DEADLINE)
        self._stop(it, future)

    def test_before_it_begins(self, rig: MakeRig) -> None:
        it = rig()
        it.interrupter.stop()
        with pytest.raises(InterruptedByStop):
            it.get()
        with pytest.raises(InterruptedByStop):
            it.lines()
        assert it.endpoint.connections == []

    @staticmethod
    def _stop(it: Rig, future: Any) -> None:
        assert not future.done()
        began = time.monotonic()
        it.interrupter.stop()
        assert isinstance(future.exception(DEADLINE), InterruptedByStop)
        assert time.monotonic() - began < PROMPTLY
