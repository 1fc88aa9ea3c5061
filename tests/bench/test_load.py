from __future__ import annotations

import contextlib
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.checks import require_whole_body
from bench.load import SCENARIOS, Scenario, parse_wrk, require_wrk, run_wrk, short_bodies
from bench.proc import BenchError, Process, free_ports

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")

REPORT = """\
Running 2s test @ http://127.0.0.1:8080/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   610.22us  102.60us   4.08ms   95.69%
    Req/Sec   104.30k     2.01k  106.13k    90.00%
  Latency Distribution
     50%  598.00us
     75%  623.00us
     90%  660.00us
     99%    1.25ms
  207612 requests in 2.01s, 33.86MB read
Requests/sec: 103362.36
Transfer/sec:     16.86MB
bytes read: 35504321
"""

BAD_REPORT = REPORT.replace(
    "Requests/sec",
    "  Socket errors: connect 1, read 20, write 300, timeout 4000\n  Non-2xx or 3xx responses: 17\nRequests/sec",
)


def test_a_clean_report() -> None:
    result = parse_wrk(REPORT)
    assert result.requests == 207612
    assert result.seconds == pytest.approx(2.01)
    assert result.p50_ms == pytest.approx(0.598)
    assert result.p99_ms == pytest.approx(1.25)
    assert (result.non_2xx, result.socket_errors) == (0, 0)
    assert result.bytes_read == 35504321


def test_every_kind_of_error_is_counted() -> None:
    result = parse_wrk(BAD_REPORT)
    assert (result.non_2xx, result.socket_errors) == (17, 4321)


def test_long_units() -> None:
    result = parse_wrk(REPORT.replace("1.25ms", "1.50s").replace("in 2.01s", "in 1.50m"))
    assert result.p99_ms == pytest.approx(1500)
    assert result.seconds == pytest.approx(90)


@pytest.mark.parametrize(
    "output",
    ["", "unable to connect to 127.0.0.1:1 Connection refused\n", REPORT[:200], REPORT[: REPORT.index("bytes")]],
)
def test_what_is_no_report_is_refused_with_its_text(output: str) -> None:
    with pytest.raises(BenchError, match="no report"):
        parse_wrk(output)


def test_missing_wrk_is_named_with_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BenchError, match="apt install wrk"):
        require_wrk()


@pytest.mark.parametrize(
    ("bytes_read", "short"), [(10 * 2**20 + 2500, 0), (10 * 2**20, 0), (10 * 2**20 - 1, 1), (9 * 2**20 - 1, 2)]
)
def test_bytes_that_are_missing_in_whole_responses_are_counted_as_bodies(bytes_read: int, short: int) -> None:
    result = parse_wrk(REPORT)._replace(requests=10, bytes_read=bytes_read)
    assert short_bodies(SCENARIOS["bulk"], result) == short
    assert short_bodies(SCENARIOS["small"], result) == 0


class Recorder:
    """Answers every request and keeps the heads. It closes where that is asked for, and always with `ends`."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", *, ends: bool = False) -> None:
        self._answer, self._ends = answer, ends
        self.connections = 0
        self.heads: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._closing:
                connection.close()
                return
            self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    _closing = False

    def _serve(self, connection: socket.socket) -> None:
        rest = b""
        with connection:
            try:
                while data := connection.recv(65536):
                    *heads, rest = (rest + data).split(b"\r\n\r\n")
                    self.heads += heads
                    if not heads:
                        continue
                    closes = b"\r\nConnection: close" in heads[-1]
                    end = b"Connection: close\r\n\r\n" if closes else b"\r\n"
                    connection.sendall(self._answer.replace(b"\r\n\r\n", b"\r\n" + end, 1) * len(heads))
                    if closes or self._ends:
                        return
            except ConnectionError:
                pass  # wrk resets what it has not read at the end

    def close(self) -> None:
        self._closing = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        for thread in self._threads:
            thread.join()
        self._listener.close()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with contextlib.closing(Recorder()) as recorder:
        yield recorder


@needs_wrk
def test_browser_heads_have_the_size_of_a_browsers_and_all_differ(recorder: Recorder) -> None:
    result = run_wrk(SCENARIOS["browser"], recorder.port, seconds=1, core=None)
    assert (result.non_2xx, result.socket_errors) == (0, 0)
    assert result.requests > 100
    assert result.bytes_read > result.requests * 20
    first = recorder.heads[:4096]  # half a turn: a slow connection may be late by less than that
    assert len(set(first)) == len(first)
    sizes = [len(head) for head in first]
    assert 640 <= min(sizes) <= max(sizes) <= 700
    assert len({head.split(b" ", 2)[1] for head in first}) == len(first), "targets differ"
    assert len({head[head.index(b"Cookie:") :] for head in first}) == len(first), "cookies differ"


@needs_wrk
@pytest.mark.parametrize("size", [100, 16_384])
def test_heads_have_the_size_that_is_asked_for_and_all_differ(size: int, recorder: Recorder) -> None:
    scenario = Scenario("head", "", connections=4, script="heads.lua", fields=(f"Head-Bytes: {size}",))
    result = run_wrk(scenario, recorder.port, seconds=1, core=None)
    assert (result.non_2xx, result.socket_errors) == (0, 0)
    first = recorder.heads[:1_000]
    assert len(set(first)) == len(first) > 100
    assert {len(head) + len(b"\r\n\r\n") for head in first} == {size}
    assert b"Head-Bytes" not in first[0]
    assert max(map(len, first[0].split(b"\r\n"))) <= 1_000


@needs_wrk
def test_small_requests_share_their_connections(recorder: Recorder) -> None:
    result = run_wrk(SCENARIOS["small"], recorder.port, seconds=1, core=None)
    assert recorder.connections <= SCENARIOS["small"].connections + 1  # wrk tries the address first
    assert result.requests > recorder.connections


@needs_wrk
def test_every_request_of_connect_has_a_connection_of_its_own(recorder: Recorder) -> None:
    result = run_wrk(SCENARIOS["connect"], recorder.port, seconds=1, core=None)
    assert (result.non_2xx, result.socket_errors) == (0, 0)
    assert 100 < result.requests <= len(recorder.heads) <= recorder.connections


@needs_wrk
def test_a_body_that_ends_early_is_a_failure() -> None:
    short = b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n" + bytes(2**20 - 1)
    with contextlib.closing(Recorder(short, ends=True)) as recorder:
        result = run_wrk(SCENARIOS["bulk"], recorder.port, seconds=1, core=None)
    assert result.requests == 0
    assert result.socket_errors > 0


@needs_wrk
def test_a_length_that_lies_is_a_failure() -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 524288\r\n\r\n" + bytes(2**19)
    with contextlib.closing(Recorder(half)) as recorder:
        result = run_wrk(SCENARIOS["bulk"], recorder.port, seconds=1, core=None)
    assert result.socket_errors == 0
    assert short_bodies(SCENARIOS["bulk"], result) > 0


@needs_wrk
def test_whole_bodies_are_no_failure(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    argv = [sys.executable, "-m", "bench.fallback_backend", str(port)]
    with Process("the backend", argv, None, tmp_path / "log") as process:
        process.wait_until_answers(port)
        require_whole_body("the backend", port)
        result = run_wrk(SCENARIOS["bulk"], port, seconds=1, core=None)
    assert result.requests > 0
    assert (result.non_2xx, result.socket_errors, short_bodies(SCENARIOS["bulk"], result)) == (0, 0, 0)
