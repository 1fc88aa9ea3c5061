from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import cli, gate, idle
from bench.peers import PEERS, REFERENCE
from bench.proc import ROOT, BenchError


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--peers", "haproxy,pound"], "no contender 'pound'; there are: no-balancer, haproxy, "),
        (["--scenarios", "tiny"], "no scenario 'tiny'; there are: small, browser, post, medium, chunked, "),
        (["--rounds", "0"], "'0' is not a whole number above 0"),
        (["--gate", "--peers", "haproxy"], f"need the contenders haproxy and {gate.GATED_PEER}"),
        (["--write-baseline", "--scenarios", "small"], "need the contenders"),
    ],
)
def test_bad_usage_says_what_there_is(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--gate", "--write-baseline"])
def test_the_gate_measures_its_scenarios_and_no_more_than_it_needs(option: str) -> None:
    arguments = cli._parse([option, "--quick"])
    assert arguments.scenarios == list(gate.GATED_SCENARIOS) == ["small", "browser"]
    assert {REFERENCE, gate.GATED_PEER} <= set(arguments.peers)
    assert set(arguments.peers) <= set(PEERS)
    # 2 scenarios, 3 rounds of 2 s: a minute and a half with the warm-up.
    assert (arguments.rounds, arguments.seconds) == (3, 2)
    assert len(arguments.peers) <= 6


def test_without_a_gate_everything_is_measured() -> None:
    arguments = cli._parse([])
    assert arguments.peers == list(PEERS)
    assert arguments.scenarios == [
        *("small", "browser", "post", "medium", "chunked", "connect", "upstream-connect", "bulk", "huge"),
        *("slow-client", "endpoints", "tcp", "websocket", "open-loop", "idle"),
    ]
    assert (arguments.rounds, arguments.seconds) == (11, 2)


def test_a_contender_that_takes_no_part_is_not_started(capsys: pytest.CaptureFixture[str]) -> None:
    podlb = PEERS["podlb-asyncio"]
    assert cli._usable(["haproxy-splice", "podlb-asyncio"], ["small", "idle"]) == [podlb]
    with pytest.raises(BenchError, match="none of the contenders"):
        cli._usable(["haproxy-splice"], ["small"])
    assert capsys.readouterr().out == ""


def test_what_cannot_run_here_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    impossible = dataclasses.replace(PEERS["podlb-epoll"], impossible="epoll is there on Linux only")
    missing = dataclasses.replace(PEERS["nginx"], program="no-such-nginx")
    monkeypatch.setattr(cli, "PEERS", {**PEERS, "podlb-epoll": impossible, "nginx": missing})
    assert [peer.name for peer in cli._usable(["nginx", "podlb-epoll", "podlb-asyncio"], ["small"])] == [
        "podlb-asyncio"
    ]
    assert capsys.readouterr().out.splitlines() == [
        f"nginx is missing and left out; to install it: {missing.install}",
        "podlb-epoll is left out: epoll is there on Linux only",
    ]


def test_a_scenario_that_can_not_be_measured_here_is_named_and_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    impossible = dataclasses.replace(cli.SCENARIOS["endpoints"], impossible="the loopback has one address here")
    monkeypatch.setattr(cli, "SCENARIOS", {**cli.SCENARIOS, "endpoints": impossible})
    monkeypatch.setattr(cli, "require_wrk", lambda: pytest.fail("asked for wrk"))
    monkeypatch.setattr(cli.measure, "run", lambda *_arguments: pytest.fail("loaded"))
    monkeypatch.setattr(cli.idle, "measure", lambda *_arguments: [])
    cli.main(["--scenarios", "endpoints,idle", "--peers", "podlb-asyncio"])
    assert capsys.readouterr().out.startswith("endpoints is left out: the loopback has one address here\n")


def test_idle_alone_needs_no_wrk_and_is_a_failure_when_connections_are_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lost = idle.IdleMemory("podlb-asyncio", 10_000, 2**20, 2**21, lost=3)
    monkeypatch.setattr(cli, "require_wrk", lambda: pytest.fail("asked for wrk"))
    monkeypatch.setattr(cli.measure, "run", lambda *_arguments: pytest.fail("loaded"))
    monkeypatch.setattr(cli.idle, "measure", lambda *_arguments: [lost])
    file = tmp_path / "idle.json"
    assert cli.main(["--scenarios", "idle", "--peers", "podlb-asyncio", "--json", str(file)]) == 1
    assert "podlb-asyncio FAILED" in capsys.readouterr().out
    assert json.loads(file.read_text())["idle"] == [lost._asdict()]


def test_without_wrk_one_line_and_status_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("shutil.which", lambda _name: None)
    assert cli.main([]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "wrk is missing" in line


def test_the_gate_without_a_baseline_fails_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "require_wrk", lambda: None)
    monkeypatch.setattr(gate, "BASELINE", ROOT / "no" / "such" / "baseline.json")
    monkeypatch.setattr(cli.measure, "run", lambda *_arguments: pytest.fail("measured"))
    assert cli.main(["--gate"]) == 1
    assert "--write-baseline" in capsys.readouterr().err


def test_the_script_runs_from_any_directory() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "run.py"), "--help"], capture_output=True, text=True, cwd="/", timeout=9
    )
    assert done.returncode == 0, done.stderr
    assert "--write-baseline" in done.stdout
