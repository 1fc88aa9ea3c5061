from __future__ import annotations

import http.client
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.backend import SMALL_BODY
from bench.echo_backend import Connection, HeadError
from bench.proc import Process, free_ports
from bench.websocket import FrameError, client_frame, server_frame

GET = b"GET / HTTP/1.1\r\nHost: it\r\n\r\n"
SWITCH = (
    b"GET /websocket HTTP/1.1\r\nHost: it\r\nupgrade: WebSocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


@pytest.fixture
def connection() -> Iterator[Connection]:
    with socket.socket() as sock:
        yield Connection(sock)


def test_get_is_answered_again_and_again(connection: Connection) -> None:
    for _ in range(2):
        answer = connection.take(GET)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"Content-Length: %d\r\n\r\n%s" % (len(SMALL_BODY), SMALL_BODY))


def test_messages_come_back_unmasked(connection: Connection) -> None:
    assert connection.take(SWITCH) == SWITCHED
    assert connection.take(client_frame(b"one")) == server_frame(b"one")
    assert connection.take(client_frame(b"two") + client_frame(b"three")) == server_frame(b"two") + server_frame(
        b"three"
    )


def test_bytes_may_come_one_by_one(connection: Connection) -> None:
    sent = GET + SWITCH + client_frame(b"one") + client_frame(b"")
    answers = b"".join(connection.take(bytes([byte])) for byte in sent)
    assert answers.startswith(b"HTTP/1.1 200 OK")
    assert answers.endswith(SWITCHED + server_frame(b"one") + server_frame(b""))


def test_what_it_does_not_know_ends_the_connection(connection: Connection) -> None:
    with pytest.raises(HeadError, match="POST"):
        connection.take(GET.replace(b"GET", b"POST"))
    with pytest.raises(HeadError, match="does not end"):
        Connection(connection.sock).take(b"GET " + b"x" * 20_000)
    switched = Connection(connection.sock)
    switched.take(SWITCH)
    with pytest.raises(FrameError):
        switched.take(b"\x88\x80\x00\x00\x00\x00")


def test_it_serves_and_survives_a_client_that_it_does_not_understand(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with Process("it", [sys.executable, "-m", "bench.echo_backend", str(port)], None, tmp_path / "log") as process:
        process.wait_until_answers(port)
        with socket.create_connection(("127.0.0.1", port), timeout=5) as stranger:
            stranger.sendall(b"POST / HTTP/1.1\r\n\r\n")
            assert stranger.recv(1) == b""
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        client.request("GET", "/")
        assert client.getresponse().read() == SMALL_BODY
        client.close()
