"""What is to be reached, held against samples."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from bench import targets
from bench.idle import IdleMemory
from bench.load import SCENARIOS
from bench.measure import Sample
from bench.peers import PEERS
from bench.stats import Interval
from bench.targets import BEST, TARGETS, TargetError, best_peer, lines_of, markdown


def sample(scenario: str, peer: str, turn: int, cpu_us: float) -> Sample:
    return Sample(
        scenario=scenario,
        peer=peer,
        turn=turn,
        requests=1_000_000,
        seconds=2.0,
        cpu_seconds=cpu_us,
        p50_ms=1.0,
        p99_ms=2.0,
        rss_bytes=2**20,
        non_2xx=0,
        socket_errors=0,
        bytes_read=10**9,
        short_bodies=0,
    )


def samples(scenario: str, costs: dict[str, float]) -> list[Sample]:
    """Three rounds, in which the machine gets slower and slower for all."""
    return [sample(scenario, peer, turn, cost * (1 + turn)) for turn in range(3) for peer, cost in costs.items()]


def run(**others: Any) -> dict[str, Any]:
    return {"samples": [], "idle": [], "open_loop": {"summary": []}, **others}


def test_the_targets_are_of_scenarios_and_contenders_that_there_are() -> None:
    for target in TARGETS:
        assert target.scenario in SCENARIOS
        assert target.peer in {*PEERS, BEST}


@pytest.mark.parametrize(("cost", "verdict"), [(11.5, "kept"), (11.6, "**missed**")])
def test_a_ratio_is_of_the_same_round(cost: float, verdict: str) -> None:
    found = samples("small", {"haproxy": 10.0, "podlb-epoll": cost, "podlb-epoll-h11": 50.0})
    (line,) = lines_of(run(samples=[each._asdict() for each in found]))
    assert (line.scenario, line.limit, line.twin) == ("small", 1.15, 5.0)
    assert line.found.median == line.found.low == line.found.high == pytest.approx(cost / 10)
    assert verdict in markdown([line])
    assert "CPU per request ÷ haproxy's" in markdown([line])


def test_the_best_peer_is_neither_ours_nor_the_backend_and_one_that_is_told_to_splice_stands_apart() -> None:
    costs = {"no-balancer": 0.1, "podlb-epoll": 0.2, "nginx": 0.5, "haproxy-auto": 0.4, "haproxy-splice": 0.25}
    found = samples("bulk", costs)
    assert best_peer(found, "bulk") == "haproxy-auto"
    best, splicing = lines_of(run(samples=[each._asdict() for each in found]))
    assert best.figure == "CPU by byte ÷ haproxy-auto's, the best peer"
    assert best.found.median == pytest.approx(0.5)
    assert best.twin is None
    assert splicing.figure == "CPU by byte ÷ haproxy-splice's"
    assert splicing.found.median == pytest.approx(0.8)


def test_without_any_peer_there_is_no_best_one() -> None:
    found = samples("bulk", {"no-balancer": 0.1, "podlb-epoll": 0.2})
    assert best_peer(found, "bulk") is None
    assert lines_of(run(samples=[each._asdict() for each in found])) == []


def test_memory_and_latency_have_limits_too() -> None:
    results = [
        IdleMemory("podlb-epoll", 10_000, 2**20, 71 * 2**20, 0),
        IdleMemory("podlb-kubernetes", 10_000, 2**20, 99 * 2**20, 0),
        IdleMemory("haproxy", 10_000, 2**20, 999 * 2**20, 0),
    ]
    rows = [
        {"peer": name, "ratio": dataclasses.asdict(Interval(value, value - 0.5, value + 0.5))}
        for name, value in (("nginx", 9.0), ("podlb-epoll", 1.9), ("podlb-epoll-h11", 4.0))
    ]
    lines = lines_of(run(idle=[each._asdict() for each in results], open_loop={"summary": rows}))
    assert [(line.scenario, line.limit, line.is_kept) for line in lines] == [
        *(("idle", 70, False), ("idle", 100, True), ("open-loop", 2.0, True)),
    ]
    table = markdown(lines).splitlines()
    assert table[2] == (
        "| `idle` | resident with 10,000 connections, podlb-epoll | 70 MiB | 71.0 MiB |  | **missed** |  |"
    )
    assert table[4] == "| `open-loop` | p99 ÷ haproxy's at the same rate | 2 | 1.90 | 1.40..2.40 | kept | 4.00 |"


def test_the_command_says_with_its_status_whether_all_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for cost, status in ((10.0, 0), (20.0, 1)):
        found = samples("small", {"haproxy": 10.0, "podlb-epoll": cost})
        file = tmp_path / "run.json"
        file.write_text(json.dumps(run(samples=[each._asdict() for each in found])))
        assert targets.main([str(file)]) == status
        assert f"| {cost / 10:.2f} |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{}", "it is not what bench/run.py --json writes (KeyError('samples'))"),
        ("no JSON", "Expecting value"),
        (json.dumps(run()), "no figure of these runs has a target"),
    ],
)
def test_the_command_says_what_is_wrong_with_a_file(
    text: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.json"
    file.write_text(text)
    assert targets.main([str(file)]) == 2
    assert why in capsys.readouterr().err


def test_what_is_no_run_is_an_error() -> None:
    with pytest.raises(TargetError, match="unexpected keyword argument"):
        lines_of(run(samples=[{"requests_a_minute": 1}]))
