"""The last snapshot in a file."""

from __future__ import annotations

import errno
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.discovery.snapshot_file import REFRESH_SECONDS, SnapshotFile
from lb.endpoint import Endpoint, Snapshot
from tests.discovery.json_values import deeply_nested

NOW = 1_700_000_000.0
SERVICE = "shop/backend-service:8080"
MAX_AGE = 3600.0
A = Endpoint(("uid-a", "10.0.0.1", 8080), "pod-a", 1, "node-1", "zone-1", ready=True)
B = Endpoint(("uid-b", "fd00::1", 8080), "pod-b", 1, "node-2", "", ready=False, was_ready=True)
C = Endpoint(("uid-c", "10.0.0.3", 8080), "pod-c", 1, "", "", ready=False)


class Rig:
    """A file that several processes may use one after the other, on one clock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = NOW

    def file(self, service: str = SERVICE) -> SnapshotFile:
        return SnapshotFile(str(self.path), service, MAX_AGE, lambda: self.now)

    def load(self, service: str = SERVICE) -> Snapshot | None:
        saved = self.file(service).load()
        return None if saved is None else saved.snapshot

    def content(self) -> dict[str, Any]:
        return dict(json.loads(self.path.read_text()))

    def taken(self) -> float:
        return float(self.content()["taken"])

    @property
    def others(self) -> list[str]:
        """What else is in the folder."""
        return sorted(path.name for path in self.path.parent.iterdir() if path != self.path)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "snapshot.json")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


class TestRoundTrip:
    @pytest.mark.parametrize("snapshot", [(), (A,), (A, B, C)])
    def test_what_was_saved_is_loaded(self, rig: Rig, snapshot: Snapshot, caplog: pytest.LogCaptureFixture) -> None:
        rig.file().save(snapshot)
        assert rig.load() == snapshot
        assert rig.others == []
        assert warnings(caplog) == []

    def test_with_its_age_which_grows(self, rig: Rig) -> None:
        rig.file().save((A,))
        rig.now += 100.0
        saved = rig.file().load()
        assert saved is not None
        assert saved.age() == 100.0
        rig.now += 5.0
        assert saved.age() == 105.0

    def test_no_file_is_no_news(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        assert rig.load() is None
        assert warnings(caplog) == []

    def test_nothing_secret_and_nothing_else_is_in_it(self, rig: Rig) -> None:
        rig.file().save((A,))
        assert rig.content() == {
            "format": 1,
            "service": SERVICE,
            "taken": NOW,
            "endpoints": [
                {
                    "uid": "uid-a",
                    "address": "10.0.0.1",
                    "port": 8080,
                    "name": "pod-a",
                    "node": "node-1",
                    "zone": "zone-1",
                    "ready": True,
                    "was_ready": False,
                }
            ],
        }


class TestSave:
    def test_a_change_is_written_at_once(self, rig: Rig) -> None:
        file = rig.file()
        for snapshot in ((A,), (A, B), (), (A,)):
            file.save(snapshot)
            assert rig.load() == snapshot

    def test_the_same_again_is_written_every_thirty_seconds_and_not_sooner(self, rig: Rig) -> None:
        file = rig.file()
        file.save((A,))
        written = []
        for _ in range(200):
            rig.now += 0.5
            file.save((A,))
            if rig.taken() == rig.now:
                written.append(rig.now - NOW)
        assert written == [30.0, 60.0, 90.0]
        assert REFRESH_SECONDS == 30.0

    def test_a_clock_that_was_set_back_does_not_stop_it(self, rig: Rig) -> None:
        file = rig.file()
        file.save((A,))
        rig.now -= 86400.0
        file.save((A,))
        assert rig.taken() == rig.now

    def test_a_reader_sees_the_old_one_or_the_new_one(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        file = rig.file()
        file.save((A,))
        seen = []

        def look(function: Any) -> Any:
            def looked(*arguments: Any) -> Any:
                seen.append(rig.load())
                result = function(*arguments)
                seen.append(rig.load())
                return result

            return looked

        monkeypatch.setattr(os, "replace", look(os.replace))
        file.save((A, B))
        assert seen == [(A,), (A, B)]

    @pytest.mark.parametrize("where", ["open", "replace"])
    def test_a_failure_is_told_of_once_and_leaves_the_old_one(
        self, rig: Rig, where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        file = rig.file()
        file.save((A,))

        def fail(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as broken:
            if where == "open":
                broken.setattr("builtins.open", fail)
            else:
                broken.setattr(os, where, fail)
            for _ in range(3):
                file.save((A, B))
        assert warnings(caplog) == [f"snapshotFile {rig.path} can't be written: No space left on device"]
        assert rig.load() == (A,)
        # It is not taken for written.
        file.save((A, B))
        assert rig.load() == (A, B)

    def test_a_new_failure_after_a_success_is_told_of(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        file = rig.file()
        folder, elsewhere = rig.path.parent, rig.path.parent.with_name("elsewhere")
        for count in (1, 2):
            folder.rename(elsewhere)
            file.save((A,) * count)
            file.save((A,) * count)
            assert warnings(caplog) == [f"snapshotFile {rig.path} can't be written: No such file or directory"] * count
            elsewhere.rename(folder)
            file.save((A,) * count)
            assert rig.load() == (A,) * count

    def test_a_folder_in_its_place(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        rig.path.mkdir()
        rig.file().save((A,))
        assert rig.load() is None
        assert warnings(caplog) == [
            f"snapshotFile {rig.path} can't be written: Is a directory",
            f"snapshotFile {rig.path} can't be read: Is a directory",
        ]


GOOD = {"format": 1, "service": SERVICE, "taken": NOW, "endpoints": []}
ENTRY = {"uid": "", "address": "10.0.0.1", "port": 80, "name": "", "node": "", "zone": "", "ready": True}
ENTRY |= {"was_ready": False}


def as_bytes(content: Any) -> bytes:
    return json.dumps(content).encode()


class TestDamaged:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\x00" * 512,
            b"null",
            b"[]",
            b"{}",
            as_bytes(GOOD)[:-1],
            as_bytes(GOOD) + b"}",
            as_bytes(GOOD).replace(b"shop", b"\xff\xff"),
            as_bytes(GOOD | {"format": 2}),
            as_bytes(GOOD | {"format": "1"}),
            as_bytes(GOOD | {"taken": "yesterday"}),
            as_bytes(GOOD | {"taken": None}),
            as_bytes(GOOD | {"endpoints": None}),
            as_bytes(GOOD | {"endpoints": [None]}),
            as_bytes(GOOD | {"endpoints": [{}]}),
            as_bytes(GOOD | {"endpoints": [ENTRY | {"port": "80"}]}),
            as_bytes(GOOD | {"endpoints": [ENTRY | {"port": 0}]}),
            as_bytes(GOOD | {"endpoints": [ENTRY | {"port": 70000}]}),
            as_bytes(GOOD | {"endpoints": [ENTRY | {"address": "example.com"}]}),
            as_bytes(GOOD | {"endpoints": [ENTRY | {"address": ""}]}),
            as_bytes(GOOD | {"endpoints": [ENTRY | {"ready": "yes"}]}),
            as_bytes(GOOD | {"endpoints": [ENTRY | {"more": 1}]}),
            as_bytes(GOOD | {"more": 1}),
            deeply_nested(b"%b"),
            deeply_nested(b'{"endpoints":%b}'),
        ],
        ids=range(25),
    )
    def test_it_is_moved_aside_with_a_warning(self, rig: Rig, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
        rig.path.write_bytes(data)
        assert rig.load() is None
        assert rig.others == ["snapshot.json.damaged"]
        assert not rig.path.exists()
        assert (rig.path.parent / "snapshot.json.damaged").read_bytes() == data
        (text,) = warnings(caplog)
        assert text.startswith(f"snapshotFile {rig.path} is damaged (")
        assert text.endswith(f"): moved to {rig.path}.damaged")
        assert "\n" not in text
        # The next one takes its place.
        rig.file().save((A,))
        assert rig.load() == (A,)

    def test_where_it_can_t_be_moved_it_stays(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        rig.path.write_bytes(b"{")

        def fail(*_: object) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(os, "replace", fail)
        assert rig.load() is None
        (text,) = warnings(caplog)
        assert text.endswith("and can't be moved: Read-only file system")
        assert rig.path.exists()


class TestNotUsed:
    @pytest.mark.parametrize("service", ["shop/backend-service:http", "other/backend-service:8080", "shop/other:8080"])
    def test_that_of_another_service(self, rig: Rig, service: str, caplog: pytest.LogCaptureFixture) -> None:
        rig.file().save((A,))
        assert rig.load(service) is None
        assert warnings(caplog) == [f"snapshotFile {rig.path} is of {SERVICE}, not of {service}: not used"]
        assert rig.load() == (A,), "it is left as it is"

    def test_one_that_is_too_old(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        rig.file().save((A,))
        rig.now += MAX_AGE
        assert rig.load() == (A,)
        rig.now += 1.0
        assert rig.load() is None
        assert warnings(caplog) == [
            f"snapshotFile {rig.path} is 3601 s old, older than snapshotMaxAge (3600 s): not used"
        ]

    def test_one_from_the_future(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        rig.file().save((A,))
        rig.now -= 10.0
        assert rig.load() is None
        (text,) = warnings(caplog)
        assert "from the future" in text


@given(st.binary(max_size=100), st.integers(min_value=0, max_value=200), st.integers(min_value=0, max_value=100))
def test_whatever_became_of_it_a_start_goes_on(data: bytes, at: int, removed: int) -> None:
    """A piece of the file was overwritten: it is refused, or what it says is of the right kind."""
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder) / "snapshot.json")
        rig.file().save((A, B))
        whole = rig.path.read_bytes()
        rig.path.write_bytes(whole[:at] + data + whole[at + removed :])
        for endpoint in rig.load() or ():
            assert isinstance(endpoint, Endpoint)
            assert 0 < endpoint.port < 65536
