from __future__ import annotations

import subprocess
import sys

import pytest

from bench import cli, gate
from bench.proc import ROOT


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--peers", "haproxy,traefik"], "no contender 'traefik'; there are: haproxy, nginx"),
        (["--scenarios", "tiny"], "no scenario 'tiny'; there are: small, browser"),
        (["--rounds", "0"], "'0' is not a whole number above 0"),
        (["--gate", "--peers", "haproxy"], "need the contenders haproxy and podlb-uvloop"),
        (["--write-baseline", "--scenarios", "small"], "need the contenders"),
    ],
)
def test_bad_usage_says_what_there_is(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


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
