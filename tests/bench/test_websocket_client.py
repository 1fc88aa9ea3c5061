from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import websocket_client
from bench.backend import ECHO
from bench.echo_backend import answer_to
from bench.measure import running
from bench.peers import PEERS
from bench.proc import Cores, Process, free_ports
from bench.websocket import echo_of
from bench.websocket_client import MESSAGE_BYTES, HandshakeError, WebSocketLoad, handshake


def switched(head: bytes) -> bytes:
    return answer_to(head.removesuffix(b"\r\n\r\n"))[0]


def silent(_frame: bytes) -> list[bytes]:
    return []


@contextlib.contextmanager
def serving(
    on_head: Callable[[bytes], bytes] = switched, on_frame: Callable[[bytes], list[bytes] | None] = silent
) -> Iterator[int]:
    """The port of a server of one connection after the other; `on_frame` says what to send, None ends it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        ends = threading.Event()

        def serve_one(connection: socket.socket) -> None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection, contextlib.suppress(OSError):
                answer = on_head(connection.recv(65536))
                connection.sendall(answer)
                if not answer:
                    return
                while frame := connection.recv(65536):
                    pieces = on_frame(frame)
                    if pieces is None:
                        return
                    for piece in pieces:
                        connection.sendall(piece)

        def serve() -> None:
            while True:
                connection, _ = listener.accept()
                if ends.is_set():
                    connection.close()
                    return
                serve_one(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ends.set()
            socket.create_connection(listener.getsockname()).close()
            thread.join()


def test_messages_go_round_and_are_counted(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with Process("it", [sys.executable, "-m", "bench.echo_backend", str(port)], None, tmp_path / "log") as process:
        process.wait_until_answers(port)
        with contextlib.closing(WebSocketLoad(port, 8)) as load:
            result = load.run(0.2)
    assert result.requests > 8
    assert result.bytes_read == result.requests * (MESSAGE_BYTES + 2)
    assert result.seconds == pytest.approx(0.2, abs=0.15)
    assert 0 < result.p50_ms <= result.p99_ms < 200
    assert (result.non_2xx, result.socket_errors, result.wrong) == (0, 0, 0)


@pytest.mark.parametrize("name", ["haproxy", "nginx", "podlb-uvloop"])
def test_contenders_switch_and_pass_messages_on(name: str) -> None:
    if not PEERS[name].is_installed():
        pytest.skip(f"{name} is not installed")
    with (
        running([PEERS[name]], Cores(None, None), behind=ECHO) as (contender,),
        contextlib.closing(WebSocketLoad(contender.port, 4)) as load,
    ):
        result = load.run(0.1)
    assert result.requests > 4
    assert (result.non_2xx, result.socket_errors, result.wrong) == (0, 0, 0)


def test_an_echo_in_pieces_is_whole_when_all_have_come() -> None:
    def pieces(frame: bytes) -> list[bytes]:
        echo = echo_of(frame)
        return [echo[:1], echo[1:50], echo[50:]]

    with serving(on_frame=pieces) as port, contextlib.closing(WebSocketLoad(port, 1)) as load:
        result = load.run(0.1)
    assert result.requests > 1
    assert (result.socket_errors, result.wrong) == (0, 0)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda echo: echo[:-1] + b"?",
        lambda echo: echo.replace(b"000000", b"000001"),
        lambda echo: echo + b"x",
        lambda echo: b"\x82" + echo[1:],
    ],
    ids=["another byte", "another's", "one too many", "another kind"],
)
def test_a_wrong_echo_is_counted_and_ends_its_connection(spoil: Callable[[bytes], bytes]) -> None:
    answers = iter([echo_of, lambda frame: spoil(echo_of(frame))])
    with (
        serving(on_frame=lambda frame: [next(answers)(frame)]) as port,
        contextlib.closing(WebSocketLoad(port, 1)) as load,
    ):
        result = load.run(5)
    assert result.seconds < 5, "there was nothing left to wait for"
    assert (result.requests, result.socket_errors, result.wrong) == (1, 0, 1)


@pytest.mark.parametrize("last", [[], [b"\x81"]], ids=["before an echo", "in the middle of one"])
def test_a_lost_connection_is_counted(last: list[bytes]) -> None:
    def leave(frame: bytes) -> list[bytes] | None:
        if answered:
            return None
        answered.append(frame)
        return [echo_of(frame), *last]

    answered: list[bytes] = []
    with serving(on_frame=leave) as port, contextlib.closing(WebSocketLoad(port, 1)) as load:
        result = load.run(5)
    assert result.seconds < 5
    assert result.requests + result.wrong == 1
    assert result.socket_errors + result.wrong == 1


def test_a_message_that_gets_no_echo_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as port, contextlib.closing(WebSocketLoad(port, 1)) as load:
        assert load.run(0.01).socket_errors == 0
    monkeypatch.setattr(websocket_client, "_STALLED_SECONDS", 0.005)
    with serving() as port, contextlib.closing(WebSocketLoad(port, 1)) as load:
        result = load.run(0.01)
    assert (result.requests, result.socket_errors) == (0, 1)


@pytest.mark.parametrize(
    ("on_head", "complaint"),
    [
        (lambda _: b"HTTP/1.1 503 No\r\n\r\n", "the answer began with b'HTTP/1.1 503 No'"),
        (lambda _: b"HTTP/1.1 101 Yes\r\nUpgrade: h2c\r\n\r\n", "the answer began with b'HTTP/1.1 101 Yes'"),
        (lambda _: b"", "no whole answer"),
        (lambda head: switched(head.replace(b"Key: ", b"Key: x")), "does not fit the key"),
        (lambda head: switched(head) + b"\x81", "more than an answer"),
    ],
    ids=["refused", "another protocol", "closed", "another key", "more than the answer"],
)
def test_a_handshake_that_is_none_is_refused(on_head: Callable[[bytes], bytes], complaint: str) -> None:
    with serving(on_head) as port, pytest.raises(HandshakeError, match=complaint):
        handshake(port)


def test_refused_handshakes_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with (
        serving(lambda _: b"HTTP/1.1 503 No\r\n\r\n") as port,
        contextlib.closing(WebSocketLoad(port, 3)) as load,
    ):
        result = load.run(5)
    assert (result.requests, result.non_2xx) == (0, 3)
    assert 0 < result.seconds < 5
    assert "connection 3 of 3: the answer began with" in capsys.readouterr().err
