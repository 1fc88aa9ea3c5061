"""Logs that are read in parts, twice, or by another name count once; a request that was delivered twice is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drills import deliveries
from tests.drills.deliveries import Deliveries, Readings
from tests.drills.kubectl import Kubectl
from tests.drills.test_faults import program

START = "[backend] 2026-11-23T06:25:01.123Z process.py:78 [INFO] listening on 0.0.0.0:8080"
LATER = START.replace("01.123", "09.456")


def line(method: str, id: str) -> str:
    return f"[backend] 2026-11-23T06:25:02.000Z server.py:1 [INFO] request {method} /echo?id={id}&delay=20ms id=abc"


POST = line("POST", "kill-000002")


def test_a_log_that_is_read_again_counts_once() -> None:
    readings = Readings("kill")
    readings.reading("a", [START, POST])
    readings.reading("a", [START, POST, line("GET", "kill-000003")])
    readings.reading("a", [START])
    assert readings.twice(["kill-000002", "kill-000003"]) == []
    assert sorted(readings.processes()) == ["kill-000002", "kill-000003"]


def test_delivered_twice_to_one_process() -> None:
    readings = Readings("kill")
    readings.reading("a", [START, POST, POST])
    assert readings.twice(["kill-000002"]) == ["kill-000002"]


def test_delivered_to_two_pods() -> None:
    readings = Readings("kill")
    readings.reading("a", [START, POST])
    readings.reading("b", [START, POST])
    assert readings.twice(["kill-000002"]) == ["kill-000002"]
    assert [log.pod for log in readings.processes()["kill-000002"]] == ["a", "b"]


def test_two_processes_of_one_pod_are_two() -> None:
    readings = Readings("kill")
    readings.reading("a", [START, POST])
    readings.reading("a", [LATER, POST])
    assert readings.twice(["kill-000002"]) == ["kill-000002"]


def test_a_reading_goes_on_behind_a_longer_one() -> None:
    readings = Readings("kill")
    lines = [START, POST, line("GET", "kill-000003"), line("GET", "kill-000004")]

    def slowly() -> Iterator[str]:
        yield from lines[:2]
        readings.reading("a", lines[:3])
        yield from lines[2:]

    readings.reading("a", slowly())
    assert sorted(readings.processes()) == ["kill-000002", "kill-000003", "kill-000004"]


def test_other_drills_and_other_lines_are_left_alone() -> None:
    readings = Readings("kill")
    readings.reading("a", [START, line("POST", "killp-000002"), "request POST /?id=kill-000001", "nonsense"])
    assert readings.processes() == {}


def test_an_empty_log() -> None:
    readings = Readings("kill")
    readings.reading("a", [])
    assert readings.logs == {}


# The log of a pod that was started again: the API server reaches its kubelet at the second attempt.
LOGS = """
echo "$*" >>"$FOLDER/calls"
case "$*" in
  *gone*) echo 'error: pods "gone" not found' >&2; exit 1 ;;
  *lost*--previous*) echo "error: previous terminated container not found" >&2; exit 1 ;;
  *--previous*) cat "$FOLDER/previous" ;;
  *) [ "$(grep -c -v previous "$FOLDER/calls")" -ge 2 ] || { echo "error: no route" >&2; exit 1; }; cat "$FOLDER/log" ;;
esac
"""


def pod(name: str, restarts: int) -> dict[str, object]:
    return {"metadata": {"name": name}, "status": {"containerStatuses": [{"restartCount": restarts}]}}


def test_what_was_cut_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDER", str(tmp_path))
    monkeypatch.setattr(deliveries, "PROGRAM_PAUSE", 0.0)
    (tmp_path / "previous").write_text(f"{START}\n{POST}\n")
    (tmp_path / "log").write_text(f"{LATER}\n{line('POST', 'kill-000003')}\n")
    followed = Deliveries(Kubectl(program(tmp_path, "kubectl", LOGS)), "podlb", "app=x", "kill")
    monkeypatch.setattr(followed._following, "stop", lambda: None)
    followed._following.objects["a"] = pod("a", 1)
    readings = followed.stop()
    assert sorted(readings.processes()) == ["kill-000002", "kill-000003"]
    assert readings.unread == []

    followed._following.objects = {"gone": pod("gone", 0), "lost": pod("lost", 1)}
    assert followed.stop().unread == [
        "kubectl logs --namespace=podlb lost --previous: error: previous terminated container not found"
    ]
