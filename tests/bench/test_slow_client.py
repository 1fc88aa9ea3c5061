from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bench import slow_client
from bench.backend import BULK_BODY
from bench.proc import Process, free_ports
from bench.slow_client import READ_BYTES, READS_PER_SECOND, Reader, RefusedError, SlowLoad, WrongAnswerError

HEAD = b"HTTP/1.1 200 OK\r\nServer: it\r\ncontent-length: 1048576\r\n\r\n"


class Pair(NamedTuple):
    """A reader that has asked at time 1, and the server's end of its connection."""

    reader: Reader
    server: socket.socket


@pytest.fixture
def pair() -> Iterator[Pair]:
    mine, server = socket.socketpair()
    with mine, server:
        mine.setblocking(False)
        reader = Reader(mine)
        reader.ask(1.0)
        assert server.recv(4096).startswith(b"GET /1MiB HTTP/1.1\r\n")
        yield Pair(reader, server)


def test_no_more_is_read_at_a_time_than_is_meant(pair: Pair) -> None:
    assert pair.reader.read(1.1) == 0
    pair.server.sendall(HEAD + BULK_BODY[: 2 * READ_BYTES])
    assert [pair.reader.read(now) for now in (1.5, 1.6, 1.7, 1.8)] == [READ_BYTES, READ_BYTES, len(HEAD), 0]
    assert (pair.reader.begun, pair.reader.first_bytes) == (1, [0.5])
    assert pair.reader.progress_at == 1.7


def test_behind_a_whole_response_comes_the_next_request(pair: Pair) -> None:
    for byte in HEAD:
        pair.server.sendall(bytes([byte]))
        assert pair.reader.read(2.0) == 1
    for start in range(0, len(BULK_BODY), READ_BYTES):
        pair.server.sendall(BULK_BODY[start : start + READ_BYTES])
        assert pair.reader.read(3.0) == READ_BYTES
    assert pair.server.recv(4096).startswith(b"GET /1MiB ")
    pair.server.sendall(HEAD)
    pair.reader.read(3.25)
    assert pair.reader.begun == 2
    assert pair.reader.first_bytes == [1.0, 0.25]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (HEAD + b"?", WrongAnswerError),
        (HEAD.replace(b"1048576", b"1048575"), WrongAnswerError),
        (HEAD.replace(b"content-length", b"x-length"), WrongAnswerError),
        (HEAD.replace(b"200", b"502"), RefusedError),
    ],
    ids=["another byte", "another length", "no length", "refused"],
)
def test_another_answer_is_seen(pair: Pair, answer: bytes, error: type[Exception]) -> None:
    pair.server.sendall(answer)
    with pytest.raises(error):
        pair.reader.read(2.0)


def test_an_end_is_seen(pair: Pair) -> None:
    pair.server.close()
    with pytest.raises(OSError, match="closed"):
        pair.reader.read(2.0)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    (port,) = free_ports(1)
    with Process("it", [sys.executable, "-m", "bench.fallback_backend", str(port)], None, tmp_path / "log") as process:
        process.wait_until_answers(port)
        yield port


def test_all_are_held_and_none_reads_faster_than_it_should(port: int) -> None:
    with contextlib.closing(SlowLoad(port, 20)) as load:
        result = load.run(0.3)
        assert all(reader.sock.fileno() >= 0 for reader in load._readers), "they stay, for memory to be read"
    assert result.requests == 20
    assert (result.non_2xx, result.socket_errors, result.wrong) == (0, 0, 0)
    assert 20 * READ_BYTES <= result.bytes_read <= 20 * READ_BYTES * (0.3 * READS_PER_SECOND + 1)
    assert 0 < result.p50_ms <= result.p99_ms < 300


def test_those_that_can_not_connect_or_are_closed_are_counted() -> None:
    with contextlib.closing(SlowLoad(free_ports(1)[0], 2)) as load:
        result = load.run(5)
    assert (result.requests, result.socket_errors) == (0, 2)
    assert 0 < result.seconds < 5
    with socket.create_server(("127.0.0.1", 0)) as listener:
        load = SlowLoad(listener.getsockname()[1], 2)
    with contextlib.closing(load):
        result = load.run(5)
    assert (result.requests, result.socket_errors) == (0, 2)
    assert result.seconds < 5


def test_those_that_get_nothing_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_client, "_STALLED_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with contextlib.closing(SlowLoad(listener.getsockname()[1], 2)) as load:
            result = load.run(0.1)
        assert (result.requests, result.socket_errors) == (0, 2)
