"""Logs that are read in parts, twice, or by another name count once; a request that was delivered twice is found."""

from __future__ import annotations

from collections.abc import Iterator

from tests.drills.deliveries import Readings

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
