"""The program: its arguments, what it may lose, and when it fails."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.drills.__main__ import DRILLS, exit_code, main
from tests.drills.cluster import Cluster, Style
from tests.drills.kubectl import DrillError, Kubectl
from tests.drills.report import Bounds, Result, Slow
from tests.drills.stage import play
from tests.drills.test_faults import program

BOUNDS = {
    "scale": Bounds(),
    "delete": Bounds(),
    "rolling": Bounds(),
    "rude": Bounds(post=15, post_per_process=5, is_cut_apart=True),
    "zero": Bounds(get=None, post=None),
    "lb-pods": Bounds(),
    "kill": Bounds(post=15, post_per_process=5, is_cut_apart=True),
    "silent": Bounds(post=50, is_cut_apart=True, slow=Slow(0.9, 0.02)),
    "api-frozen": Bounds(post=5, is_cut_apart=True),
    "api-killed": Bounds(post=50, is_cut_apart=True),
    "kubelet": Bounds(),
    "lb-killed": Bounds(get=None, post=None, is_cut_apart=True),
    "two-namespaces": Bounds(),
}


def test_what_each_may_lose() -> None:
    assert {name: drill.bounds for name, drill in DRILLS.items()} == BOUNDS
    assert [name for name, drill in DRILLS.items() if drill.is_to_one_pod] == ["api-killed", "kubelet", "lb-killed"]
    assert [name for name, drill in DRILLS.items() if drill.style is Style.RUDE] == ["rude"]


def test_the_requests_of_two_drills_are_told_apart() -> None:
    prefixes = [name.replace("-", "") + plain for name in DRILLS for plain in ("", "p")]
    assert len(prefixes) == len(set(prefixes))


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(DRILLS)
    assert "GET 0, POST 50, 2% over 0.9 s, needs faults from below" in lines[list(DRILLS).index("silent")]


def test_an_unknown_drill(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["tsunami"])
    assert caught.value.code == 2
    assert "no drill 'tsunami'; there are: scale," in capsys.readouterr().err


def test_when_it_fails() -> None:
    good, skipped = Result("kill", "podlb"), Result("kill", "podlb", skipped="no driver")
    bad, plain = Result("kill", "podlb", faults=["2 GETs failed"]), Result("kill", "Service", faults=["60 GETs failed"])
    assert exit_code([good, plain], is_ci=True) == 0
    assert exit_code([good, bad], is_ci=False) == 1
    assert exit_code([good, skipped], is_ci=False) == 0
    assert exit_code([good, skipped], is_ci=True) == 1


def test_without_faults_from_below_it_skips_and_says_why() -> None:
    result = play(DRILLS["kill"], Cluster(Kubectl("kubectl"), "podlb"), None)
    assert "set PODLB_CLUSTER" in result.skipped
    assert result.is_good


def test_nothing_was_deployed(tmp_path: Path) -> None:
    kubectl = Kubectl(program(tmp_path, "kubectl", 'echo "deployments lb not found" >&2; exit 1\n'))
    with pytest.raises(DrillError, match=r"lb not found; deploy it first \(deploy/kind/kind\.sh deploy\)"):
        Cluster(kubectl, "podlb").require()


def test_a_cluster_of_its_own_needs_a_script(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PODLB_CLUSTER", raising=False)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert main(["--up"]) == 1
    assert capsys.readouterr().err.startswith("drills: --up needs a cluster script: set PODLB_CLUSTER")
