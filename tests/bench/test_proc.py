from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bench.backend import FALLBACK
from bench.proc import BenchError, Cores, Process, choose_cores, free_ports, pinned


def test_a_process_answers_is_measured_and_stopped(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    argv = [sys.executable, "-m", "bench.fallback_backend", str(port)]
    with Process("the backend", argv, None, tmp_path / "log") as process:
        process.wait_until_answers(port)
        usage = process.usage()
        assert usage.cpu_seconds > 0
        assert usage.rss_bytes > 2**20
    with pytest.raises(BenchError, match="the backend died"):
        process.usage()


def test_a_process_that_cannot_start_shows_what_it_wrote(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "print('port taken'); raise SystemExit(3)"]
    with Process("it", argv, None, tmp_path / "log") as process, pytest.raises(BenchError) as caught:
        process.wait_until_answers(free_ports(1)[0])
    assert "it ended with status 3" in str(caught.value)
    assert "port taken" in str(caught.value)


def test_configuration_from_the_environment_does_not_reach_a_contender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PODLB_RETRIES", "0")
    argv = [sys.executable, "-c", "import os; print('PODLB_RETRIES' in os.environ)"]
    with Process("it", argv, None, tmp_path / "log") as process, pytest.raises(BenchError, match="status 0"):
        process.wait_until_answers(free_ports(1)[0])
    assert process.log_tail() == "    False"


def test_free_ports_all_differ() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20


def test_pinning_is_inherited_and_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[set[int]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda _pid, cores: calls.append(set(cores)), raising=False)
    with pinned(1):
        assert calls == [{1}]
    assert calls == [{1}, {0, 1, 2}]
    with pinned(None):
        pass
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("usable", "cores"), [({0, 1}, Cores(0, 1)), ({7, 3, 5}, Cores(3, 5)), ({0}, Cores(None, None))]
)
def test_the_balancer_has_a_core_of_its_own(monkeypatch: pytest.MonkeyPatch, usable: set[int], cores: Cores) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: usable, raising=False)
    assert choose_cores() == cores


def test_without_affinity_nothing_is_pinned_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert choose_cores() == Cores(None, None)
    assert "nothing pinned" in str(choose_cores())


def test_the_stand_in_backend_says_that_figures_do_not_compare() -> None:
    assert "NOT comparable" in FALLBACK
