from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from bench import backend, measure
from bench.clients import Load
from bench.load import SCENARIOS, LoadResult, Scenario
from bench.measure import Contender, Plan, run
from bench.peers import PEERS, Peer
from bench.proc import BenchError, Cores
from bench.usage import Usage

RESULT = LoadResult(100, 5000, 2.0, 0.5, 1.5, 1, 2, wrong=3)


@dataclass
class Machine:
    """Stands for backend, contenders and load, and keeps what was done in turn."""

    steps: list[str] = field(default_factory=list)
    starts: list[tuple[backend.Behind, list[str]]] = field(default_factory=list)
    cpu_seconds: float = 0.0
    rss_bytes: int = 1
    during: tuple[int, ...] = ()
    """Resident bytes that are seen while there is load."""

    def usage(self) -> Usage:
        self.steps.append("usage")
        return Usage(self.cpu_seconds, self.rss_bytes)

    @contextlib.contextmanager
    def running(self, peers: Sequence[Peer], _cores: Cores, behind: backend.Behind) -> Iterator[list[Contender]]:
        self.starts.append((behind, [peer.name for peer in peers]))
        process: Any = self
        yield [Contender(peer, process, 8080, process) for peer in peers]

    @contextlib.contextmanager
    def prepared(self, _scenario: Scenario, _port: int, _seconds: int, _core: object) -> Iterator[Load]:
        def load(watch: Callable[[], None]) -> LoadResult:
            self.steps.append("load")
            self.cpu_seconds += 0.25
            for rss_bytes in self.during:
                self.rss_bytes = rss_bytes
                watch()
            self.rss_bytes = 5
            return RESULT

        self.steps.append("prepared")
        yield load
        self.steps.append("closed")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(measure, "running", machine.running)
    monkeypatch.setattr(measure, "prepared", machine.prepared)
    return machine


def run_of(peers: Sequence[str], scenarios: Sequence[Scenario]) -> list[measure.Sample]:
    plan = Plan(scenarios, rounds=1, seconds=2)
    return run([PEERS[name] for name in peers], plan, Cores(None, None), lambda _line: None)


def test_cpu_and_memory_are_those_of_the_load_while_its_connections_are_open(machine: Machine) -> None:
    (sample,) = run_of(["haproxy"], [SCENARIOS["small"]])
    warm_up = ["prepared", "load", "closed"]
    assert machine.steps == [*warm_up, "prepared", "usage", "usage", "load", "usage", "usage", "closed"]
    assert sample.cpu_seconds == 0.25
    assert sample.rss_bytes == 5, "read behind the load, not before it"
    assert (sample.non_2xx, sample.socket_errors, sample.short_bodies, sample.failed) == (1, 2, 3, 6)


def test_a_scenario_may_ask_for_load_before_every_measurement(machine: Machine) -> None:
    plan = Plan([SCENARIOS["small"], replace(SCENARIOS["small"], is_warmed_each_time=True)], rounds=2, seconds=2)
    samples = run([PEERS["haproxy"]], plan, Cores(None, None), lambda _line: None)
    assert [sample.cpu_seconds for sample in samples] == [0.25] * 4
    assert machine.steps.count("load") == (1 + 2) + (1 + 2 * 2)
    assert SCENARIOS["endpoints"].is_warmed_each_time


def test_memory_is_the_most_that_was_seen(machine: Machine) -> None:
    machine.during = (3, 9, 7)
    (sample,) = run_of(["haproxy"], [replace(SCENARIOS["slow-client"], check=None)])
    assert sample.rss_bytes == 9


def test_contenders_are_started_anew_where_a_scenario_asks_for_it_and_those_alone_that_it_measures(
    machine: Machine,
) -> None:
    checked: list[tuple[str, int]] = []
    many = Scenario("endpoints", "many", anew=backend.MANY, check=lambda name, port: checked.append((name, port)))
    names = ["haproxy", "haproxy-tcp", "podlb-epoll-tcp"]
    samples = run_of(names, [many, SCENARIOS["small"], SCENARIOS["tcp"]])
    assert machine.starts == [(backend.USUAL, names), (backend.MANY, ["haproxy"])]
    assert checked == [("haproxy", 8080)]
    assert [(sample.scenario, sample.peer) for sample in samples] == [
        ("small", "haproxy"),
        ("small", "haproxy-tcp"),
        ("tcp", "haproxy-tcp"),
        ("tcp", "podlb-epoll-tcp"),
        ("endpoints", "haproxy"),
    ]


def test_nothing_is_started_for_a_scenario_without_contenders(machine: Machine) -> None:
    assert run_of(["podlb-epoll-tcp"], [SCENARIOS["websocket"], SCENARIOS["small"]]) == []
    assert machine.starts == []


def test_too_few_open_files_are_noticed_before_anything_is_measured(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(count: int, what: str) -> None:
        if count > 2000:
            raise BenchError(f"{what} {count}")

    monkeypatch.setattr(measure, "require_open_files", refuse)
    with pytest.raises(BenchError, match="endpoints 3000"):
        run_of(["haproxy"], [SCENARIOS["small"], SCENARIOS["endpoints"]])
    assert machine.steps == []


def test_the_first_in_a_round_is_another_each_time(machine: Machine) -> None:
    plan = Plan([SCENARIOS["small"]], rounds=3, seconds=2)
    lines: list[str] = []
    samples = run([PEERS["haproxy"], PEERS["nginx"]], plan, Cores(None, None), lines.append)
    assert [(sample.turn, sample.peer) for sample in samples] == [
        *((0, "haproxy"), (0, "nginx"), (1, "nginx"), (1, "haproxy"), (2, "haproxy"), (2, "nginx"))
    ]
    assert lines[-1] == "small: round 3 of 3, CPU µs/req: haproxy 2500.0, nginx 2500.0"
