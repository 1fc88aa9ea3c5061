from __future__ import annotations

import contextlib
import dataclasses
import http.client
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from bench import growth_load
from bench.backend import Behind
from bench.growth_load import bodies, many_endpoints, measure
from bench.load import LoadResult, Scenario
from bench.measure import Contender
from bench.peers import PEERS, Setting
from bench.proc import BenchError, Cores, Process, free_ports
from bench.usage import Usage

needs_nginx = pytest.mark.skipif(
    shutil.which("nginx", path="/usr/bin:/usr/sbin:/usr/local/sbin:/opt/homebrew/bin") is None, reason="needs nginx"
)
NO_CORES = Cores(None, None)


@pytest.fixture
def served() -> Iterator[Path]:
    """A directory that nginx's worker, another user when root starts it, may look into."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def get(backend: str, path: str) -> bytes:
    connection = http.client.HTTPConnection(backend, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


@pytest.fixture
def debian_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin:/usr/sbin:/usr/local/sbin:/opt/homebrew/bin")


@contextlib.contextmanager
def started(behind: Behind, directory: Path) -> Iterator[Sequence[str]]:
    directory.chmod(0o755)
    (port,) = free_ports(1)
    addresses = behind.addresses(port)
    argv = behind.argv(Setting(port, 0, addresses, directory))
    with Process("the backend", argv, None, directory / "log") as process:
        process.wait_until_answers(port)
        yield addresses


@needs_nginx
def test_one_backend_answers_at_every_address(debian_path: None, served: Path) -> None:
    with started(many_endpoints(5), served) as backends:
        assert len(set(backends)) == 5
        assert {get(backend, "/") for backend in backends} == {b"hello from the backend\n"}


@needs_nginx
def test_bodies_have_the_sizes_of_their_paths(debian_path: None, served: Path) -> None:
    sizes = (0, 1_024, 2**20 + 1)
    with started(bodies(sizes), served) as (backend,):
        assert [len(get(backend, f"/{size}")) for size in sizes] == list(sizes)


class FakeProcess:
    def __init__(self) -> None:
        self._usages = [Usage(1.0, 2**20), Usage(3.0, 2**21)]

    def usage(self) -> Usage:
        return self._usages.pop(0)


def contender() -> Contender:
    process = cast(Any, FakeProcess())
    return Contender(PEERS["haproxy"], process, 18080, process)


RESULT = LoadResult(requests=1_000, bytes_read=999, seconds=2.0, p50_ms=1.0, p99_ms=1.0, non_2xx=2, socket_errors=3)


def test_cost_is_what_the_processes_used_over_the_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth_load, "run_wrk", lambda *_arguments: RESULT)
    found = measure(contender(), Scenario("it", ""), 2, NO_CORES)
    assert found.cpu_us == pytest.approx(2_000.0)
    assert (found.rss_bytes, found.failed, found.seconds) == (2**21, 5, 2.0)
    # 1 byte of 1,000 bodies is missing.
    short = measure(contender(), dataclasses.replace(Scenario("it", ""), body_bytes=1), 2, NO_CORES)
    assert short.failed == 6


def test_no_answer_at_all_is_an_error_with_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth_load, "run_wrk", lambda *_arguments: RESULT._replace(requests=0))
    with pytest.raises(BenchError, match="body: haproxy answered not one request of /12"):
        measure(contender(), Scenario("body", "", path="/12"), 2, NO_CORES)
