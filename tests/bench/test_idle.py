from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import idle
from bench.idle import IdleMemory, connections_that_fit, failures, table
from bench.idle_client import AnswerError, count_lost, main, open_connection
from bench.peers import PEERS, Peer, Setting
from bench.proc import ROOT, BenchError, Cores, Process, free_ports

ANSWER = b"HTTP/1.1 200 OK\r\nServer: it\r\ncontent-length: 5\r\n\r\nhello"


class Server:
    """Gives each connection its bytes in pieces, and keeps it, or closes it with `ends`."""

    def __init__(self, *pieces: bytes, ends: bool = False) -> None:
        self._pieces, self._ends = pieces, ends
        self.connections: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(ConnectionError):
                if not connection.recv(65536):
                    connection.close()
                    return
                for piece in self._pieces:
                    connection.sendall(piece)
            self.connections.append(connection)
            if self._ends:
                connection.close()

    def close(self) -> None:
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        for each in (self._listener, *self.connections):
            each.close()


@contextlib.contextmanager
def serving(*pieces: bytes, ends: bool = False) -> Iterator[Server]:
    with contextlib.closing(Server(*pieces, ends=ends)) as server:
        yield server


def test_an_answer_is_read_to_its_end_however_it_is_cut() -> None:
    with serving(*(bytes([byte]) for byte in ANSWER)) as server, open_connection(server.port) as connection:
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(1)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (ANSWER[:-1], "closed before the answer was whole"),
        (ANSWER.replace(b"200", b"503"), "the answer began with b'HTTP/1.1 503"),
        (ANSWER.replace(b"content-length", b"x-content-length"), "the answer began with"),
    ],
)
def test_anything_but_a_whole_answer_is_refused(answer: bytes, complaint: str) -> None:
    with serving(answer, ends=True) as server, pytest.raises(AnswerError, match=complaint):
        open_connection(server.port)


def test_a_connection_that_the_server_ends_is_lost() -> None:
    with serving(ANSWER) as server, contextlib.ExitStack() as stack:
        held = [stack.enter_context(open_connection(server.port)) for _ in range(5)]
        assert count_lost(held) == 0
        server.connections[1].close()
        server.connections[3].sendall(b"?")
        for index in (1, 3):
            held[index].recv(1, socket.MSG_PEEK)
        assert count_lost(held) == 2


def test_the_client_names_the_connection_that_had_no_answer() -> None:
    with serving(b"HTTP/1.1 500 No\r\n\r\n", ends=True) as server:
        complaint = main(server.port, 3)
    assert complaint is not None
    assert complaint.startswith("connection 1 of 3: the answer began with b'HTTP/1.1 500")


def test_the_client_holds_reports_and_ends_with_its_input() -> None:
    with serving(ANSWER) as server:
        argv = [sys.executable, "-m", "bench.idle_client", str(server.port), "20"]
        client = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        with client:
            assert client.stdout is not None
            assert client.stdout.readline() == "held 20\n"
            server.connections[7].close()
            output, _ = client.communicate(timeout=8)
    assert client.returncode == 0
    assert output == "lost 1\n"


@pytest.mark.parametrize(
    ("hard", "count"),
    [
        (resource.RLIM_INFINITY, 10_000),
        (1_048_576, 10_000),
        (20_400, 10_000),
        (20_398, 9_999),
        (20_000, 9_800),
        (10, 1),
    ],
)
def test_no_more_connections_than_the_limit_of_open_files_permits(hard: int, count: int) -> None:
    assert connections_that_fit(hard) == count


def backend_as_contender(name: str, *, scenarios: tuple[str, ...] | None = None) -> Peer:
    def argv(setting: Setting) -> list[str]:
        assert setting.connections == idle.CONNECTIONS
        return [sys.executable, "-m", "bench.fallback_backend", str(setting.port)]

    return Peer(name, argv, sys.executable, "--version", "make test", scenarios)


def test_a_contender_is_measured_fresh_and_with_its_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "CONNECTIONS", 300)
    lines: list[str] = []
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    peers = [backend_as_contender("one"), backend_as_contender("no part", scenarios=("bulk",))]
    (result,) = idle.measure(peers, Cores(None, None), lines.append)
    assert (result.peer, result.connections, result.lost) == ("one", 300, 0)
    assert 2**20 < result.before_bytes < result.with_bytes < result.before_bytes + 2**26
    assert lines == [f"idle: one {result.with_bytes / 2**20:.1f} MiB"]
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == limits


def test_a_contender_that_does_not_answer_all_is_named(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    argv = [sys.executable, "-m", "bench.fallback_backend", str(port)]
    with Process("it", argv, None, tmp_path / "log") as process, serving(b"HTTP/1.1 500 No\r\n\r\n") as server:
        process.wait_until_answers(port)
        contender = idle.Contender(backend_as_contender("it"), process, server.port, process)
        with pytest.raises(BenchError, match=r"^idle: it did not answer on 9 connections: connection 1 of 9: .* 500"):
            idle._hold(contender, 9, None)


def test_the_table_has_memory_and_what_a_connection_costs() -> None:
    good = IdleMemory("podlb-epoll-h11", 10_000, 20 * 2**20, 20 * 2**20 + 10_000 * 2048, lost=0)
    assert table([good]).splitlines()[-1].split() == ["podlb-epoll-h11", "10000", "20.0", "39.5", "-", "2.00", "0"]
    assert failures([good]) == []
    text = table([good, good._replace(peer="nginx", lost=2)])
    assert "2 !!!" in text
    assert text.splitlines()[-1] == "!!! idle: nginx FAILED: it did not keep 2 of 10000 connections"


@pytest.mark.parametrize(("peer", "limit"), [("podlb-epoll", 70), ("podlb-kubernetes", 100)])
def test_more_memory_than_the_limit_is_a_failure(peer: str, limit: int) -> None:
    just = IdleMemory(peer, 10_000, 2**20, limit * 2**20, lost=0)
    assert failures([just]) == []
    assert table([just]).splitlines()[-1].split() == [
        peer,
        "10000",
        "1.0",
        f"{limit}.0",
        str(limit),
        f"{(limit - 1) * 1024 / 10_000:.2f}",
        "0",
    ]
    above = just._replace(with_bytes=limit * 2**20 + 52429)
    assert f"{limit} !!!" in table([above])
    assert failures([above]) == [f"!!! idle: {peer} FAILED: it has {limit}.1 MiB and may have {limit}"]


@pytest.mark.slow
def test_podlb_is_measured_beside_an_api_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "CONNECTIONS", 30)
    (result,) = idle.measure([PEERS["podlb-kubernetes"]], Cores(None, None), lambda _line: None)
    assert (result.peer, result.connections, result.lost) == ("podlb-kubernetes", 30, 0)
