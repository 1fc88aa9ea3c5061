"""`snapshotFile`: a start while the API server can't be reached serves what was known last, if that is not too old."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.controlplane.apiserver import ApiServer
from tests.controlplane.objects import endpoint_slice, ready
from tests.controlplane.plane import FakePlane, Plane
from tests.controlplane.podlb import START_SECONDS, follow
from tests.fakes import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

STARTUP = "--startup-timeout=2"


def leave_a_snapshot(plane: Plane, folder: Path) -> str:
    """Run podlb until it has written its file, and kill it; return the flag."""
    flag = f"--snapshot-file={folder / 'snapshot.json'}"
    plane.put(endpoint_slice("one", [ready("10.0.0.1", pod="a"), ready("10.0.0.2", pod="b")]))
    with follow(plane, folder, flag) as podlb:
        podlb.wait_until_ready()
        eventually((folder / "snapshot.json").exists, "the file")
    return flag


def test_it_serves_until_the_api_server_is_back(plane: Plane, tmp_path: Path) -> None:
    flag = leave_a_snapshot(plane, tmp_path)
    plane.stop()
    try:
        with follow(plane, tmp_path, flag, STARTUP) as podlb:
            podlb.wait_for_line(r"\[WARN\] the Kubernetes API at", seconds=START_SECONDS)
            assert not podlb.is_ready()
            podlb.wait_until_ready()
            assert podlb.rotation() == {"10.0.0.1:8080", "10.0.0.2:8080"}
            warning = podlb.wait_for_line(r"\[WARN\] .*serving 2 endpoints from snapshotFile, which is \d+ s old")
            assert "refused" in warning
            assert 0 < podlb.metric("snapshot_age_seconds") < 60
            assert {row["name"] for row in podlb.rows()} == {"a", "b"}
            plane.start()
            plane.put(endpoint_slice("one", [ready("10.0.0.3", pod="c")]))
            podlb.wait_for_rotation(["10.0.0.3"])
            eventually(lambda: podlb.metric("snapshot_age_seconds") == 0, "the end of the snapshot's time")
            podlb.stop_in_time()
    finally:
        if isinstance(plane, FakePlane):
            plane.stop()


def test_a_frozen_api_server_counts_as_away(apiserver: ApiServer, tmp_path: Path) -> None:
    flag = leave_a_snapshot(FakePlane(apiserver), tmp_path)
    apiserver.freeze()
    with follow(FakePlane(apiserver), tmp_path, flag, STARTUP) as podlb:
        podlb.wait_until_ready()
        assert podlb.rotation() == {"10.0.0.1:8080", "10.0.0.2:8080"}
        podlb.stop_in_time()


def test_an_api_server_that_is_there_counts_alone(apiserver: ApiServer, tmp_path: Path) -> None:
    flag = leave_a_snapshot(FakePlane(apiserver), tmp_path)
    apiserver.put("podlb", endpoint_slice("one", []))
    with follow(FakePlane(apiserver), tmp_path, flag) as podlb:
        podlb.wait_until_ready()
        assert podlb.rotation() == set()
        assert podlb.metric("snapshot_age_seconds") == 0
    # And that none is left is remembered as well.
    apiserver.stop()
    with follow(FakePlane(apiserver), tmp_path, flag, STARTUP) as podlb:
        podlb.wait_until_ready()
        assert podlb.rotation() == set()


def test_a_damaged_file_is_moved_aside(apiserver: ApiServer, tmp_path: Path) -> None:
    flag = leave_a_snapshot(FakePlane(apiserver), tmp_path)
    file = tmp_path / "snapshot.json"
    whole = file.read_bytes()
    damaged = whole[: len(whole) // 2]
    file.write_bytes(damaged)
    apiserver.stop()
    with follow(FakePlane(apiserver), tmp_path, flag, STARTUP) as podlb:
        assert "startupTimeout" in podlb.failure(seconds=4.5)
        (warning,) = podlb.logged(r"\[WARN\] .*damaged")
        assert str(file) in warning
    assert not file.exists()
    (aside,) = [path for path in tmp_path.iterdir() if path.name.startswith("snapshot.json.")]
    assert aside.read_bytes() == damaged
    # With the API server there, a damaged file is no hindrance, and a whole one takes its place.
    apiserver.start()
    file.write_bytes(b"\x00" * 100)
    with follow(FakePlane(apiserver), tmp_path, flag) as podlb:
        podlb.wait_until_ready()
        eventually(lambda: file.exists() and b"10.0.0.2" in file.read_bytes(), "a new file")


def test_a_file_that_is_too_old_is_refused(apiserver: ApiServer, tmp_path: Path) -> None:
    flag = leave_a_snapshot(FakePlane(apiserver), tmp_path)
    apiserver.stop()
    with follow(FakePlane(apiserver), tmp_path, flag, STARTUP, "--snapshot-max-age=1") as podlb:
        # The start alone takes longer than that.
        line = podlb.failure(seconds=4.5)
        assert "startupTimeout" in line
        assert podlb.logged(r"\[WARN\] snapshotFile .*old")


def test_a_file_of_another_service_is_not_used(apiserver: ApiServer, tmp_path: Path) -> None:
    flag = leave_a_snapshot(FakePlane(apiserver), tmp_path)
    apiserver.stop()
    with follow(FakePlane(apiserver), tmp_path, flag, STARTUP, service="other") as podlb:
        podlb.failure(seconds=4.5)


def test_a_folder_that_is_not_there_is_told_of_once(apiserver: ApiServer, tmp_path: Path) -> None:
    plane = FakePlane(apiserver)
    plane.put(endpoint_slice("one", [ready("10.0.0.1", pod="a")]))
    with follow(plane, tmp_path, f"--snapshot-file={tmp_path / 'nowhere' / 'snapshot.json'}") as podlb:
        podlb.wait_until_ready()
        for turn in range(2, 5):
            plane.put(endpoint_slice("one", [ready(f"10.0.0.{turn}", pod="a")]))
            podlb.wait_for_rotation([f"10.0.0.{turn}"])
        line = podlb.wait_for_line(r"\[WARN\] snapshotFile .*nowhere")
        assert podlb.logged(r"\[WARN\] snapshotFile .*nowhere") == [line]
