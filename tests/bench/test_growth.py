from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from bench import growth, growth_chart
from bench.backend import USUAL, Behind
from bench.growth import SERIES, Run
from bench.growth_load import Measured
from bench.growth_report import Sample
from bench.load import Scenario
from bench.measure import Contender
from bench.peers import PEERS, Peer
from bench.proc import BenchError, Cores

NOTHING = cast(Any, None)


class World:
    """Stands in for the processes and the load: what was asked for, and what it costs."""

    def __init__(self) -> None:
        self.started: list[tuple[tuple[str, ...], int]] = []
        self.endpoints: list[int] = []
        self.loads: list[tuple[str, Scenario]] = []
        self.held: list[int] = []
        self.lost = 0
        self.rate = 0.0
        self.changes = 0

    @contextlib.contextmanager
    def running(
        self, peers: Sequence[Peer], _cores: Cores, connections: int = 64, behind: Behind = USUAL
    ) -> Iterator[list[Contender]]:
        self.started.append((tuple(peer.name for peer in peers), connections))
        self.endpoints.append(behind.endpoints)
        yield [Contender(peer, NOTHING, 0, NOTHING) for peer in peers]

    def measure(self, contender: Contender, scenario: Scenario, seconds: int, _cores: Cores) -> Measured:
        self.loads.append((contender.peer.name, scenario))
        self.changes += int(self.rate * seconds)
        cpu = 0.5 * seconds + self.rate * seconds / 1_000
        return Measured(10_000 * seconds, float(seconds), cpu, 2**20, 0)

    @contextlib.contextmanager
    def holding(self, _contender: Contender, count: int, _core: int | None) -> Iterator[World]:
        self.held.append(count)
        yield self

    @contextlib.contextmanager
    def open_files(self, _count: int, _what: str) -> Iterator[None]:
        yield

    # An API server.

    peer = PEERS["podlb-kubernetes"]

    @contextlib.contextmanager
    def beside_api_server(self, _core: int | None) -> Iterator[World]:
        yield self

    def change(self, rate: float) -> None:
        self.rate = rate

    def events(self) -> int:
        return self.changes


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    for name in ("running", "measure", "beside_api_server"):
        monkeypatch.setattr(growth, name, getattr(world, name))
    monkeypatch.setattr(growth.idle, "holding", world.holding)
    monkeypatch.setattr(growth, "open_files", world.open_files)
    monkeypatch.setattr(growth.idle, "connections_that_fit", lambda _limit: 10_000)
    return world


def run(rounds: int = 2) -> Run:
    peers = [PEERS["podlb-epoll"], PEERS["haproxy"]]
    return Run(peers, rounds, 1, Cores(None, None), lambda _line: None)


def test_every_series_can_be_measured_and_has_sizes_to_compare() -> None:
    assert list(SERIES) == list(growth._MEASURED_BY) == ["connections", "endpoints", "head", "body", "events"]
    for series in SERIES.values():
        assert sorted(set(series.sizes)) == list(series.sizes)
        assert len([size for size in series.sizes if size >= series.compared_from > -1]) >= 2


def test_contenders_alternate_and_another_one_begins_each_round(world: World) -> None:
    samples = growth.endpoints(run(), (1, 10))
    assert [(each.size, each.turn, each.peer) for each in samples] == [
        *((1, 0, "podlb-epoll"), (1, 0, "haproxy"), (1, 1, "haproxy"), (1, 1, "podlb-epoll")),
        *((10, 0, "podlb-epoll"), (10, 0, "haproxy"), (10, 1, "haproxy"), (10, 1, "podlb-epoll")),
    ]
    assert {each.cost for each in samples} == {50.0}
    assert set(world.endpoints) == {1, 10}
    # Warmed up once for each size, and before each measurement with several endpoints, beside what counts.
    assert len(world.loads) == 2 * 2 + 4 + len(samples)


def test_most_connections_are_idle_and_those_lost_are_failures(world: World) -> None:
    world.lost = 3
    samples = growth.connections(run(rounds=1), (10, 100))
    assert world.held == [0, 0, 90, 90]
    assert [each.failed for each in samples] == [3, 3, 3, 3]
    assert [connections for _, connections in world.started] == [10 + 64, 100 + 64]
    assert {scenario.connections for _, scenario in world.loads} == {10}


def test_no_more_connections_than_fit_and_no_size_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth.idle, "connections_that_fit", lambda _limit: 90)
    lines: list[str] = []
    samples = growth.connections(run(rounds=1)._replace(progress=lines.append), (10, 100, 1_000))
    assert [each.size for each in samples] == [10, 10, 90, 90]
    assert lines[0] == "connections: 90 at most, which the hard limit of open files permits (ulimit -Hn)"


def test_haproxy_has_no_part_where_a_head_does_not_fit(world: World) -> None:
    samples = growth.head(run(rounds=1), (4_096, 16_384))
    assert [(each.size, each.peer) for each in samples] == [
        *((4_096, "podlb-epoll"), (4_096, "haproxy"), (16_384, "podlb-epoll")),
    ]
    assert world.loads[0][1].fields == ("Head-Bytes: 4096",)


def test_bodies_are_checked_for_their_length(world: World) -> None:
    growth.body(run(rounds=1), (0, 1_024))
    assert {(scenario.path, scenario.body_bytes) for _, scenario in world.loads} == {("/0", None), ("/1024", 1_024)}


def test_what_changes_cost_is_what_the_requests_did_not(world: World) -> None:
    samples = growth.events(run(rounds=1), (0, 100))
    assert world.started == [(("podlb-kubernetes",), 64)]
    assert [(each.size, each.reached) for each in samples] == [(0, None), (100, 100.0)]
    assert [each.cost for each in samples] == pytest.approx([0.0, 100.0])
    assert world.rate == 0.0


def test_the_command_prints_tables_and_verdicts_and_writes_what_it_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    drawn: list[str] = []

    def head(given: Run, sizes: Sequence[int]) -> list[Sample]:
        assert (given.rounds, given.seconds) == (1, 1)
        return [Sample("head", "podlb-epoll", size, 0, 40.0, 2**20, failed=size // 16_384) for size in sizes]

    monkeypatch.setattr(growth, "_peers", lambda _progress: [PEERS["podlb-epoll"]])
    monkeypatch.setitem(growth._MEASURED_BY, "head", head)
    monkeypatch.setattr(growth_chart, "require_matplotlib", lambda: None)
    monkeypatch.setattr(growth_chart, "draw", lambda series, _points, _directory: drawn.append(series.name))
    file = tmp_path / "new" / "growth.json"
    argv = ["--quick", "--only", "head", "--json", str(file), "--charts", str(tmp_path)]
    assert growth.main(argv) == 1, "a request failed"
    output = capsys.readouterr().out
    assert "| 16,384 | 40.0 | 1.0 |" in output
    assert "head: podlb-epoll: CPU at 16,384 bytes of head is 1.00 x that at 100, the work is 164 x: grows no" in output
    assert "!!! head: podlb-epoll at 16,384 bytes of head FAILED: 1 requests" in output
    written = json.loads(file.read_text())
    assert (len(written["points"]), len(written["samples"]), written["rounds"]) == (4, 4, 1)
    assert drawn == ["head"]


def test_bad_usage_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        growth.main(["--only", "head,feet"])
    assert "no series 'feet'; there are: connections, endpoints, head, body, events" in capsys.readouterr().err


def test_what_is_missing_is_named_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(growth, "require_wrk", lambda: None)
    monkeypatch.setattr(growth.backend, "has_nginx", lambda: False)
    assert growth.main([]) == 1
    assert "bench: nginx is missing" in capsys.readouterr().err


def test_without_haproxy_podlb_is_measured_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "require_wrk", lambda: None)
    monkeypatch.setattr(growth.backend, "has_nginx", lambda: True)
    monkeypatch.setattr(Peer, "is_installed", lambda peer: peer.name != "haproxy")
    lines: list[str] = []
    assert growth._peers(lines.append) == [PEERS["podlb-epoll"]]
    assert lines == [f"haproxy is missing and left out; to install it: {PEERS['haproxy'].install}"]


def test_no_charts_without_matplotlib(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing() -> None:
        raise BenchError("charts need matplotlib")

    monkeypatch.setattr(growth_chart, "require_matplotlib", missing)
    monkeypatch.setattr(growth, "_peers", lambda _progress: pytest.fail("went on"))
    assert growth.main(["--charts", "out"]) == 1
    assert capsys.readouterr().err == "bench: charts need matplotlib\n"
