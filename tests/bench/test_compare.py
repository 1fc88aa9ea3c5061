"""What got better or worse from one run to another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.compare import CompareError, changes, main, read
from bench.stats import Interval


def result(path: Path, *rows: tuple[str, str, tuple[float, float, float] | None]) -> Path:
    """Write what a run would; each row is scenario, contender, and median, low and high of its ratio."""
    summary = [
        {
            "scenario": scenario,
            "peer": peer,
            "ratio": ratio and dict(zip(("median", "low", "high"), ratio, strict=True)),
        }
        for scenario, peer, ratio in rows
    ]
    path.write_text(json.dumps({"summary": summary}))
    return path


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    before = result(
        tmp_path / "before.json",
        ("small", "nginx", (1.0, 0.98, 1.02)),
        ("small", "podlb-epoll", (1.10, 1.05, 1.15)),
        ("browser", "podlb-epoll", (1.5, 1.4, 1.6)),
        ("bulk", "podlb-epoll", (0.8, 0.7, 0.9)),
        ("small", "gone", (1.0, 1.0, 1.0)),
    )
    after = result(
        tmp_path / "after.json",
        ("small", "no-balancer", None),
        ("small", "nginx", (1.01, 0.99, 1.03)),
        ("small", "podlb-epoll", (1.20, 1.16, 1.25)),
        ("browser", "podlb-epoll", (1.3, 1.2, 1.39)),
        ("bulk", "podlb-epoll", (0.89, 0.8, 0.95)),
    )
    return [str(before), str(after)]


def test_latency_at_a_fixed_rate_is_compared_too(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    ratio = {"median": 1.5, "low": 1.2, "high": 1.9}
    file.write_text(json.dumps({"summary": [], "open_loop": {"summary": [{"peer": "podlb-epoll", "ratio": ratio}]}}))
    assert read(file) == {("open-loop", "podlb-epoll"): Interval(1.5, 1.2, 1.9)}


def test_only_what_lies_beyond_the_noise_counts(runs: list[str]) -> None:
    found = changes(*(read(Path(run)) for run in runs))
    assert {(change.scenario, change.peer): change.verdict for change in found} == {
        ("small", "nginx"): "",
        ("small", "podlb-epoll"): "worse",
        ("browser", "podlb-epoll"): "better",
        ("bulk", "podlb-epoll"): "",
    }
    assert found[1].after == Interval(1.20, 1.16, 1.25)


def test_worse_is_a_failure(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(runs) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "cost relative to HAProxy's, of both runs"
    assert [line.split()[-1] for line in lines if "podlb" in line] == ["worse", "better", "0.80..0.95"]
    assert main(runs[::-1]) == 1
    assert main([runs[0], runs[0]]) == 0


def test_what_cannot_be_compared(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.json"
    assert main([runs[0], str(other)]) == 2
    other.write_text("{}")
    assert main([runs[0], str(other)]) == 2
    assert main([runs[0], str(result(other, ("small", "somebody", (1.0, 1.0, 1.0))))]) == 2
    told = capsys.readouterr().err
    assert "can't be read" in told
    assert "is not what bench/run.py --json writes" in told
    assert "no contender in common" in told
    with pytest.raises(CompareError):
        read(tmp_path)
