from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from bench import cli, open_loop
from bench.load import LoadResult
from bench.measure import Contender
from bench.open_loop import Load, Row, Sample, failures, parse, summarise, table
from bench.peers import CONTROL, PEERS, REFERENCE, Peer
from bench.proc import BenchError, Cores
from bench.stats import Interval

REPORT = {
    "summary": {"total": 2.0, "requestsPerSec": 1032.0},
    "latencyPercentiles": {"p50": 0.0005, "p95": 0.002, "p99": 0.004},
    "statusCodeDistribution": {"200": 1990, "304": 4, "503": 6},
    "errorDistribution": {"aborted due to deadline": 64, "connection error": 2},
}


def row(peer: str = "podlb-epoll", **changes: Any) -> Row:
    usual = Row(peer, 10_000, 9_990.0, 0.2, 1.5, 0.1, 1.0, Interval(1.5, 1.4, 1.6), failed=0)
    return usual._replace(**changes)


def test_the_end_of_the_time_is_no_failure_and_all_else_is() -> None:
    assert parse(json.dumps(REPORT)) == Load(requests=2000, seconds=2.0, p50_ms=0.5, p99_ms=4.0, failed=6 + 2)


@pytest.mark.parametrize(
    "output",
    [
        "",
        "error: unexpected argument",
        "[]",
        json.dumps({key: value for key, value in REPORT.items() if key != "statusCodeDistribution"}),
        # What oha says when nothing was answered.
        json.dumps({**REPORT, "latencyPercentiles": {"p50": None, "p99": None}}),
    ],
)
def test_anything_but_a_report_with_answers_is_refused(output: str) -> None:
    with pytest.raises(BenchError, match="oha printed no report that can be read"):
        parse(output)


def oha(directory: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    program = directory / "oha"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


def test_oha_is_asked_for_a_rate_with_the_correction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report").write_text(json.dumps(REPORT))
    oha(tmp_path, monkeypatch, f'echo "$@" > {tmp_path}/words; cat {tmp_path}/report')
    assert open_loop._run_oha(8080, 12_345, 2, None).p99_ms == 4.0
    words = (tmp_path / "words").read_text().split()
    assert words[-1] == "http://127.0.0.1:8080/"
    assert "--latency-correction" in words
    assert {flag: words[words.index(flag) + 1] for flag in ("-q", "-z", "-c", "--worker-threads")} == {
        "-q": "12345",
        "-z": "2s",
        "-c": "64",
        "--worker-threads": "1",
    }


def test_an_oha_that_fails_is_told_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    oha(tmp_path, monkeypatch, "echo no such flag >&2; exit 2")
    with pytest.raises(BenchError, match=r"status 2:\nno such flag"):
        open_loop._run_oha(8080, 1, 1, None)


def test_without_oha_or_the_reference_it_is_left_out_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    haproxy = PEERS[REFERENCE]
    there = {"oha", haproxy.program}
    monkeypatch.setattr(open_loop.shutil, "which", lambda name: name if name in there else None)
    assert open_loop.left_out(haproxy) is None
    there.remove(haproxy.program)
    assert open_loop.left_out(haproxy) == (
        f"open-loop is left out, since haproxy is missing; to install it: {haproxy.install}"
    )
    there.remove("oha")
    assert open_loop.left_out(haproxy) == (
        "open-loop is left out, since oha is missing; to install it: cargo install oha --version 1.16.0 --locked"
    )


def test_contenders_are_those_asked_for_that_can_be_compared() -> None:
    def chosen(names: Sequence[str]) -> list[str]:
        return [peer.name for peer in open_loop.chosen(PEERS.values(), names)]

    assert chosen(open_loop.CONTENDERS) == ["nginx", "podlb-epoll", "podlb-epoll-h11"]
    assert chosen([CONTROL.name, REFERENCE, "haproxy-splice", "podlb-uvloop"]) == ["podlb-uvloop"]


def test_a_contenders_rate_is_its_own_and_the_first_of_a_pair_alternates(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    maxima = {1: 90_000, 2: 50_000, 3: 20_000}

    @contextlib.contextmanager
    def running(peers: Sequence[Peer], _cores: Cores) -> Iterator[list[Contender]]:
        nothing = cast(Any, None)
        yield [Contender(peer, nothing, port, nothing) for port, peer in enumerate(peers, start=1)]

    def wrk(_scenario: object, port: int, seconds: int, _core: object) -> LoadResult:
        return LoadResult(maxima[port] * seconds, 1, float(seconds), 1.0, 1.0, 0, 0)

    def load(port: int, rate: int, seconds: int, _core: object) -> Load:
        asked.append((port, rate))
        return Load(rate * seconds, float(seconds), 0.1, float(port), failed=0)

    monkeypatch.setattr(open_loop, "running", running)
    monkeypatch.setattr(open_loop, "run_wrk", wrk)
    monkeypatch.setattr(open_loop, "_run_oha", load)
    lines: list[str] = []
    peers = [PEERS["nginx"], PEERS["podlb-epoll"]]
    samples = open_loop.measure(PEERS[REFERENCE], peers, 2, 2, Cores(None, None), lines.append)
    assert asked == [
        *((2, 30_000), (1, 30_000), (3, 12_000), (1, 12_000)),
        *((1, 30_000), (2, 30_000), (1, 12_000), (3, 12_000)),
    ]
    assert [(each.peer, each.asked, each.ratio.median) for each in summarise(samples)] == [
        ("nginx", 30_000, 2.0),
        ("podlb-epoll", 12_000, 3.0),
    ]
    assert lines[0] == "open-loop: requests per second: nginx 30000, podlb-epoll 12000"
    assert len(lines) == 3


def test_the_ratio_is_of_the_p99_of_the_same_round_and_both_sides_count() -> None:
    def pair(turn: int, its: float, reference: float, failed: int = 0) -> list[Sample]:
        return [
            Sample("nginx", "nginx", turn, 100, 99.0, 0.1, its, failed),
            Sample("nginx", REFERENCE, turn, 100, 90.0, 0.2, reference, 1),
        ]

    (found,) = summarise(pair(0, 2.0, 1.0) + pair(1, 30.0, 10.0) + pair(2, 4.0, 1.0, failed=5))
    # (The medians alone would say 4.)
    assert found.ratio == Interval(3.0, 2.0, 4.0)
    assert (found.p99_ms, found.reference_p99_ms, found.p50_ms, found.reference_p50_ms) == (4.0, 1.0, 0.1, 0.2)
    assert (found.reached, found.is_short, found.failed) == (90.0, True, 8)


def test_the_table_tells_rate_latency_ratio_and_verdict() -> None:
    text = table([row()])
    assert text.splitlines()[3].split() == [
        *("podlb-epoll", "10000", "9990", "0.20", "0.10", "1.50", "1.00", "1.50", "1.40..1.60", "0"),
    ]
    assert text.splitlines()[-1] == "podlb-epoll: p99 at 1.50 x haproxy's, at most 2 is the aim: kept"
    assert "<" not in text


def test_an_aim_that_is_missed_a_rate_that_is_not_reached_and_failures_are_told() -> None:
    assert table([row(ratio=Interval(2.01, 1.9, 2.1))]).endswith("at most 2 is the aim: MISSED")
    text = table([row(reached=9_699.0), row("nginx", failed=3)])
    assert "<9699" in text
    assert "< less than 97% of the rate asked for" in text
    assert "aim: says nothing, for the rate was not reached" in text
    assert text.splitlines()[-1] == "!!! open-loop: nginx FAILED: 3 requests, its own and haproxy's, had no good answer"
    assert failures([row()]) == []


def test_the_command_measures_it_and_writes_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked: list[str] = []
    sample = Sample("podlb-asyncio", "podlb-asyncio", 0, 100, 100.0, 0.1, 3.0, 0)

    def measure(_reference: Peer, peers: Sequence[Peer], *_arguments: object) -> list[Sample]:
        asked.extend(peer.name for peer in peers)
        return [sample, sample._replace(peer=REFERENCE, p99_ms=2.0)]

    monkeypatch.setattr(open_loop, "left_out", lambda _reference: None)
    monkeypatch.setattr(open_loop, "measure", measure)
    monkeypatch.setattr(cli, "require_wrk", lambda: None)
    file = tmp_path / "open.json"
    assert cli.main(["--scenarios", "open-loop", "--peers", "podlb-asyncio", "--json", str(file)]) == 0
    assert asked == ["podlb-asyncio"]
    assert "open-loop: keep-alive GET at 60% of each contender's own maximum" in capsys.readouterr().out
    written = json.loads(file.read_text())["open_loop"]
    assert written["summary"][0]["ratio"] == dataclasses.asdict(Interval(1.5, 1.5, 1.5))
    assert written["samples"][0] == sample._asdict()


def test_where_oha_is_missing_the_rest_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(open_loop, "left_out", lambda _reference: "open-loop is left out, since oha is missing")
    monkeypatch.setattr(open_loop, "measure", lambda *_arguments: pytest.fail("measured"))
    monkeypatch.setattr(cli.idle, "measure", lambda *_arguments: [])
    assert cli.main(["--scenarios", "open-loop,idle", "--peers", "podlb-asyncio"]) == 0
    assert "open-loop is left out, since oha is missing" in capsys.readouterr().out


def test_the_reference_alone_is_not_compared_with_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(open_loop, "left_out", lambda _reference: None)
    monkeypatch.setattr(Peer, "is_installed", lambda _peer: True)
    monkeypatch.setattr(Peer, "version", lambda _peer: "1")
    monkeypatch.setattr(open_loop, "measure", lambda *_arguments: pytest.fail("measured"))
    monkeypatch.setattr(cli, "require_wrk", lambda: None)
    assert cli.main(["--scenarios", "open-loop", "--peers", REFERENCE]) == 0
    assert "open-loop is left out: it compares others with haproxy, and there is no other" in capsys.readouterr().out
