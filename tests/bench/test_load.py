from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator

import pytest

from bench.load import SCENARIOS, parse_wrk, require_wrk, run_wrk
from bench.proc import BenchError

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


def test_every_kind_of_error_is_counted() -> None:
    result = parse_wrk(BAD_REPORT)
    assert (result.non_2xx, result.socket_errors) == (17, 4321)


def test_long_units() -> None:
    result = parse_wrk(REPORT.replace("1.25ms", "1.50s").replace("in 2.01s", "in 1.50m"))
    assert result.p99_ms == pytest.approx(1500)
    assert result.seconds == pytest.approx(90)


@pytest.mark.parametrize("output", ["", "unable to connect to 127.0.0.1:1 Connection refused\n", REPORT[:200]])
def test_what_is_no_report_is_refused_with_its_text(output: str) -> None:
    with pytest.raises(BenchError, match="no report"):
        parse_wrk(output)


def test_missing_wrk_is_named_with_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BenchError, match="apt install wrk"):
        require_wrk()


class Recorder:
    """Answers every request and keeps the heads."""

    def __init__(self) -> None:
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
            self._threads.append(threading.Thread(target=self._answer, args=(connection,)))
            self._threads[-1].start()

    _closing = False

    def _answer(self, connection: socket.socket) -> None:
        rest = b""
        with connection:
            try:
                while data := connection.recv(65536):
                    *heads, rest = (rest + data).split(b"\r\n\r\n")
                    self.heads += heads
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * len(heads))
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
    recorder = Recorder()
    yield recorder
    recorder.close()


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_browser_heads_have_the_size_of_a_browsers_and_all_differ(recorder: Recorder) -> None:
    result = run_wrk(SCENARIOS["browser"], recorder.port, seconds=1, core=None)
    assert (result.non_2xx, result.socket_errors) == (0, 0)
    assert result.requests > 100
    first = recorder.heads[:4096]  # half a turn: a slow connection may be late by less than that
    assert len(set(first)) == len(first)
    sizes = [len(head) for head in first]
    assert 640 <= min(sizes) <= max(sizes) <= 700
    assert len({head.split(b" ", 2)[1] for head in first}) == len(first), "targets differ"
    assert len({head[head.index(b"Cookie:") :] for head in first}) == len(first), "cookies differ"
