"""A part over its budget is named and fails the check; so do a thousand endpoints that cost more than three."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pyperf
import pytest

from bench.micro import budgets, endpoints, parts
from bench.micro.budgets import Measured
from bench.micro.fixtures import SMALL, balanced
from bench.proc import ROOT
from lb.http1.head import HeadLimits, HeadParser
from lb.http1.readers import RequestReader

REQUEST = RequestReader(HeadParser(HeadLimits())).read(SMALL)


def test_over_is_what_costs_more_than_it_may() -> None:
    cheap, exact, dear, free = (
        Measured("cheap", 0.1, 0.2),
        Measured("exact", 0.2, 0.2),
        Measured("dear", 0.201, 0.2),
        Measured("free", 9.0, None),
    )
    assert budgets.over([cheap, exact, dear, free]) == [dear]
    lines = budgets.table([cheap, exact, dear, free]).splitlines()
    assert [line.split() for line in lines[3:7]] == [
        ["cheap", "0.100", "0.2"],
        ["exact", "0.200", "0.2"],
        ["dear", "0.201", "0.2", "OVER", "!!!"],
        ["free", "9.000", "-"],
    ]
    assert lines[-1] == "1 of 3 over their budget"


@pytest.mark.parametrize(("h11", "note"), [(17.0, ""), (25.0, ""), (34.0, "2.0 times slower")])
def test_a_machine_that_is_busy_or_slow_is_said(h11: float, note: str) -> None:
    last = budgets.table([Measured(budgets.YARDSTICK, h11, None)]).splitlines()[-1]
    assert last.startswith("0 of 0 over their budget")
    assert note in last
    assert ("slower" in last) == bool(note)
    assert budgets.YARDSTICK in [part.name for part in parts.PARTS]


class Runner:
    """Stands in for pyperf's: every part costs the same."""

    mean = 0.0
    is_worker = False

    def __init__(self, **_: Any) -> None:
        self.argparser = SimpleNamespace(add_argument=lambda *_, **__: None)
        self.measured: list[str] = []

    def parse_args(self) -> SimpleNamespace:
        return SimpleNamespace(check=True, worker=self.is_worker)

    def bench_time_func(self, name: str, *_: Any) -> SimpleNamespace:
        def mean() -> float:
            assert not self.is_worker, "a worker that only calibrates has no values"
            return self.mean

        return SimpleNamespace(mean=mean)


@pytest.mark.parametrize(
    ("mean", "many_fail", "is_worker", "status"),
    [(1e-9, 0, False, 0), (1.0, 0, False, 1), (1e-9, 1, False, 1), (1.0, 1, True, 0)],
)
def test_the_check_fails_for_a_part_or_for_many_endpoints(
    mean: float, many_fail: int, is_worker: bool, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pyperf, "Runner", Runner)
    monkeypatch.setattr(Runner, "mean", mean)
    monkeypatch.setattr(Runner, "is_worker", is_worker)
    monkeypatch.setattr(endpoints, "main", lambda _argv: many_fail)
    assert parts.main() == status


def test_each_picked_endpoint_gives_its_connection_and_takes_it_back() -> None:
    service = balanced(3)
    assert endpoints.passer(service, REQUEST)(7) > 0
    assert list(service.pool.counts().values()) == [1, 1, 1]
    picked = service.pick(REQUEST, 0.5)
    # Seven were picked: it is the second one's turn.
    assert picked is not None
    assert picked.address == "10.0.0.2"


def test_the_ratio_is_taken_pair_by_pair_and_the_first_one_takes_turns() -> None:
    order: list[str] = []
    speed = iter([1.0, 1.0, 5.0, 5.0, 2.0, 2.0])

    def few(times: int) -> float:
        order.append("few")
        return next(speed) * times

    def many(times: int) -> float:
        order.append("many")
        return next(speed) * times * 1.02

    found = endpoints.ratio(few, many, pairs=3, times=100)
    assert order == ["few", "many", "many", "few", "few", "many"]
    assert found.median == found.low == found.high == pytest.approx(1.02)


@pytest.mark.parametrize(("factor", "status", "verdict"), [(1.04, 0, "passed"), (1.2, 1, "OVER !!!")])
def test_a_thousand_endpoints_may_not_cost_more(
    factor: float, status: int, verdict: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def passer(service: Any, _request: Any) -> endpoints.Passer:
        return lambda times: times * (factor if len(service.snapshot) == endpoints.MANY else 1.0)

    monkeypatch.setattr(endpoints, "passer", passer)
    assert endpoints.main(["--pairs", "5"]) == status
    assert f"{factor:.3f} ({factor:.3f}..{factor:.3f})" in (said := capsys.readouterr().out)
    assert said.rstrip().endswith(verdict)


@pytest.mark.slow
@pytest.mark.timeout(130)
def test_the_command_measures_every_part_and_names_those_over_their_budget() -> None:
    """One call of each, which says nothing of its cost: what is over is over in the table and in the status."""
    argv = [sys.executable, "-m", "bench.micro.parts", "--check", "--debug-single-value", "--quiet"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 1), done.stderr
    for part in parts.PARTS:
        assert f"\n{part.name} " in done.stdout
    assert ("OVER !!!" in done.stdout) == bool(done.returncode)
