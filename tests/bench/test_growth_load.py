from __future__ import annotations

import dataclasses
import http.client
import shutil
from pathlib import Path
from typing import Any, cast

import pytest

from bench import growth_load
from bench.growth_load import addresses, before, bodies, many_configuration, many_endpoints, measure
from bench.load import LoadResult, Scenario
from bench.measure import Contender
from bench.peers import PEERS, Setting
from bench.proc import BenchError, Cores
from bench.usage import Usage

needs_nginx = pytest.mark.skipif(
    shutil.which("nginx", path="/usr/bin:/usr/sbin:/usr/local/sbin:/opt/homebrew/bin") is None, reason="needs nginx"
)
NO_CORES = Cores(None, None)


def test_addresses_are_many_different_ones_of_loopback() -> None:
    found = addresses(2_000)
    assert len(set(found)) == 2_000
    assert found[0] == "127.1.0.1"
    assert found[250] == "127.1.1.1"
    parts = [[int(part) for part in address.split(".")] for address in found]
    assert all(part[:2] == [127, 1] and 0 < part[3] < 255 for part in parts)


def test_nginx_listens_at_each_of_them_and_nowhere_else(tmp_path: Path) -> None:
    text = many_configuration(Setting(18080, 0, (), tmp_path), addresses(3))
    assert [line.split()[1] for line in text.splitlines() if line.strip().startswith("listen ")] == [
        *("127.0.0.1:18080", "127.1.0.1:18080", "127.1.0.2:18080", "127.1.0.3:18080"),
    ]


def test_a_contender_is_put_before_other_backends(tmp_path: Path) -> None:
    setting = Setting(18080, 18081, ("127.0.0.1:19001",), tmp_path)
    moved = before(PEERS["podlb-epoll"], ["127.1.0.1:19002", "127.1.0.2:19002"])
    assert moved.name == "podlb-epoll"
    words = moved.argv(setting)
    assert words[words.index("--backends") + 1] == "127.1.0.1:19002,127.1.0.2:19002"


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


@needs_nginx
def test_one_backend_answers_at_every_address(debian_path: None) -> None:
    with many_endpoints(5, NO_CORES) as backends:
        assert len(backends) == 5
        assert {get(backend, "/") for backend in backends} == {b"hello from the backend\n"}


@needs_nginx
def test_bodies_have_the_sizes_of_their_paths(debian_path: None) -> None:
    sizes = (0, 1_024, 2**20 + 1)
    with bodies(sizes, NO_CORES) as (backend,):
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
