"""The source for `backendsFile`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from lb.config import Backend
from lb.discovery import DiscoveryError, Source
from lb.discovery.file import FILE_LIMIT, FileSource, Reading, Signature, parse_backends_file, read_file
from lb.endpoint import Snapshot
from tests.discovery.fakes import FakeNames, FakeSleep, endpoints


class Rig:
    """A file, a source that reads it, and what the source published."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.published: list[Snapshot] = []
        self.names = FakeNames()
        self.sleep = FakeSleep()
        self.source = FileSource(str(path), 80, resolve=self.names, sleep=self.sleep)

    def write(self, content: object) -> None:
        """Put a new file in place of the old one, as an editor or kubelet does."""
        new = self.path.with_suffix(".new")
        new.write_text(content if isinstance(content, str) else json.dumps(content))
        new.replace(self.path)

    async def start(self, content: object) -> None:
        self.write(content)
        await self.source.start(self.published.append)


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "backends.json")
    yield rig
    await rig.source.stop()
    assert len(asyncio.all_tasks()) == 1


@pytest.fixture(autouse=True)
def _show_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lb")


def logged(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


# What the file says


@settings(deadline=None)
@given(st.lists(st.tuples(st.ip_addresses(network="10.0.0.0/8"), st.integers(1, 65535)), unique=True))
def test_a_list_of_backends_reads_as_what_was_written(pairs: list[tuple[object, int]]) -> None:
    backends = tuple(Backend(str(host), port) for host, port in pairs)
    data = json.dumps([str(backend) for backend in backends]).encode()
    assert parse_backends_file(data, 80) == backends


@settings(deadline=None)
@given(st.binary() | st.text('[]",:{}\n01a', max_size=20).map(str.encode))
def test_any_bytes_are_backends_or_a_value_error_of_one_line(data: bytes) -> None:
    try:
        result = f"line {parse_backends_file(data, 80)}"
    except ValueError as exc:
        result = str(exc)
    assert result.isprintable()
    assert result.startswith("line ")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "line 1, column 1: not valid JSON"),
        (b'["a",\n"b"\n"c"]', "line 3, column 1: not valid JSON: Expecting ',' delimiter"),
        (b'["a",]', "line 1, column 6: not valid JSON"),
        (b'\n\n{"a": 1}', 'line 3: a JSON list is needed, as ["10.0.0.1:8080"]'),
        (b'["a",\n\n 5]', 'line 3: entry 2: not a text such as "10.0.0.1:8080"'),
        (b'[ "a" ,\n "b",\n "http://c" ]', 'line 3: entry 3: http://c: remove "http://"'),
        (b'[\n"a:1",\n"b",\n"a:1"]', "line 4: entry 3: a:1 is there already as entry 1"),
        (b'["a\\n,",\n"b"]', "line 1: entry 1"),
        (b'["a"]\n\n\xff', "line 3: not UTF-8"),
        (b"[" * 100_000, "line 1: nested too deeply"),
        (b"[" + b"9" * 5000 + b"]", "line 1: entry 1: not a text"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(data: bytes, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_backends_file(data, 80)
    assert str(caught.value).startswith(message)


def test_a_byte_order_mark_is_no_error() -> None:
    assert parse_backends_file(b'\xef\xbb\xbf["a"]', 80) == (Backend("a", 80),)


# How it is read


def test_an_unchanged_file_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"1")
    reading = read_file(str(path), None)
    assert reading is not None
    assert reading.data == b"1"
    assert read_file(str(path), reading.signature) is None
    (tmp_path / "g").write_bytes(b"2")
    os.utime(tmp_path / "g", ns=(0, reading.signature[0]))
    (tmp_path / "g").replace(path)  # same time and size: it is another file nevertheless
    changed = read_file(str(path), reading.signature)
    assert changed is not None
    assert changed.data == b"2"


def test_a_symbolic_link_that_is_swapped_is_a_change(tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_bytes(name.encode())
        os.utime(tmp_path / name / "f", ns=(0, 0))
    (tmp_path / "data").symlink_to("1")
    (tmp_path / "f").symlink_to("data/f")
    before = read_file(str(tmp_path / "f"), None)
    assert before is not None
    (tmp_path / "new").symlink_to("2")
    (tmp_path / "new").replace(tmp_path / "data")
    after = read_file(str(tmp_path / "f"), before.signature)
    assert after is not None
    assert (before.data, after.data) == (b"1", b"2")


def test_what_is_no_plain_file_of_sensible_size_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ValueError, match="not a regular file"):
        read_file(str(tmp_path / "fifo"), None)
    with pytest.raises(ValueError, match="not a regular file"):
        read_file(str(tmp_path), None)
    with open(tmp_path / "large", "wb") as file:
        file.truncate(FILE_LIMIT + 1)
    with pytest.raises(ValueError, match="larger than"):
        read_file(str(tmp_path / "large"), None)


# The source


@pytest.mark.asyncio
async def test_the_list_is_published_at_the_start(rig: Rig) -> None:
    source: Source = rig.source
    rig.names.answers["web"] = ["10.0.0.2"]
    rig.write(["10.0.0.1:8080", "[::1]:81", "web"])
    await source.start(rig.published.append)
    assert rig.published == [endpoints("10.0.0.1:8080", "[::1]:81", "10.0.0.2:80 web")]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "backends.json: No such file or directory: mend the file, or correct backendsFile"),
        ("[1]", "backends.json: line 1: entry 1: not a text"),
        ('["a"\n', "backends.json: line 2, column 1: not valid JSON"),
        (["web"], "none of the backends' names can be resolved (web: Name or service not known)"),
    ],
)
@pytest.mark.asyncio
async def test_a_start_that_fails_says_where_and_why(rig: Rig, content: object, part: str) -> None:
    if content is not None:
        rig.write(content)
    with pytest.raises(DiscoveryError) as caught:
        await rig.source.start(rig.published.append)
    assert str(caught.value).startswith(str(rig.path))
    assert part in str(caught.value)
    assert rig.published == []


@pytest.mark.asyncio
async def test_a_path_that_can_be_none_is_an_error_too() -> None:
    with pytest.raises(DiscoveryError):
        await FileSource("a\0b", 80).start(lambda snapshot: None)


@pytest.mark.asyncio
async def test_an_empty_list_is_valid_and_warned_about(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    await rig.start([])
    assert rig.published == [()]
    await rig.sleep.end_one(2)
    assert logged(caplog, logging.WARNING) == [f"{rig.path} lists no backends: requests are answered 503 until it does"]


@pytest.mark.asyncio
async def test_a_change_is_seen_within_one_look(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    await rig.start(["10.0.0.1", "10.0.0.2"])
    await rig.sleep.end_one(3)
    assert len(rig.published) == 1
    rig.write(["10.0.0.2", "10.0.0.3"])
    await rig.sleep.end_one()
    assert rig.published[1:] == [endpoints("10.0.0.2:80", "10.0.0.3:80")]
    assert logged(caplog, logging.INFO)[1:] == ["endpoint removed: 10.0.0.1:80", "endpoint added: 10.0.0.3:80"]
    rig.write([])
    await rig.sleep.end_one()
    assert rig.published[2:] == [()]
    assert set(rig.sleep.asked) == {1.0}


@pytest.mark.asyncio
async def test_a_write_in_the_same_tick_of_the_clock_is_seen_too(rig: Rig) -> None:
    await rig.start(["10.0.0.1"])
    before = rig.path.stat()
    rig.path.write_text(json.dumps(["10.0.0.2"]))
    os.utime(rig.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert read_file(str(rig.path), (before.st_mtime_ns, before.st_size, before.st_ino, before.st_dev)) is None
    await rig.sleep.end_one()
    assert rig.published[1:] == [endpoints("10.0.0.2:80")]


@pytest.mark.asyncio
async def test_an_unchanged_file_is_opened_no_more(tmp_path: Path) -> None:
    readings: list[Reading | None] = []

    def read(path: str, known: Signature | None) -> Reading | None:
        readings.append(read_file(path, known))
        return readings[-1]

    path, sleep = tmp_path / "f", FakeSleep()
    path.write_text("[]")
    source = FileSource(str(path), 80, sleep=sleep, read=read)
    await source.start(lambda snapshot: None)
    await sleep.end_one(4)
    assert [reading is not None for reading in readings] == [True, True, False, False, False]
    await source.stop()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "No such file or directory"),
        ("[1]", "line 1: entry 1: not a text"),
        ("", "line 1, column 1: not valid JSON"),
    ],
)
@pytest.mark.asyncio
async def test_a_fault_keeps_the_last_snapshot_and_is_told_once(
    rig: Rig, caplog: pytest.LogCaptureFixture, content: str | None, fault: str
) -> None:
    await rig.start(["10.0.0.1"])
    await rig.sleep.end_one(2)
    if content is None:
        rig.path.unlink()
    else:
        rig.write(content)
    await rig.sleep.end_one(40)  # over a look-up of names as well
    rig.source.reload()
    await rig.sleep.end_one()
    errors = logged(caplog, logging.ERROR)
    assert len(errors) == 1
    assert errors[0].startswith(f"{rig.path}: {fault}")
    assert errors[0].endswith("until this is mended the last snapshot stays in use")
    assert len(rig.published) == 1
    rig.write(["10.0.0.1"])
    await rig.sleep.end_one(2)
    assert len(rig.published) == 1
    assert logged(caplog, logging.INFO)[-1] == f"{rig.path}: in order again"
    rig.write(["10.0.0.2"])
    await rig.sleep.end_one()
    assert rig.published[1:] == [endpoints("10.0.0.2:80")]


@pytest.mark.asyncio
async def test_a_file_that_was_away_for_a_while_is_in_order_again(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    await rig.start(["10.0.0.1"])
    await rig.sleep.end_one(2)
    away = rig.path.rename(rig.path.with_suffix(".away"))
    await rig.sleep.end_one()
    away.rename(rig.path)
    await rig.sleep.end_one()
    assert logged(caplog, logging.INFO)[-1] == f"{rig.path}: in order again"


@pytest.mark.asyncio
async def test_another_fault_is_told_again(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    await rig.start(["10.0.0.1"])
    for content in ("[1]", "[2,", "[1]"):
        rig.write(content)
        await rig.sleep.end_one(2)
    assert len(logged(caplog, logging.ERROR)) == 3


@pytest.mark.asyncio
async def test_a_reload_reads_at_once(rig: Rig) -> None:
    await rig.start(["10.0.0.1"])
    await rig.sleep.end_one(2)
    rig.write(["10.0.0.2"])
    rig.source.reload()
    async with asyncio.timeout(5):
        while len(rig.published) < 2:
            await asyncio.sleep(0)
    assert rig.published[1] == endpoints("10.0.0.2:80")
    assert len(rig.sleep.asked) == 3


@pytest.mark.asyncio
async def test_a_reload_looks_names_up_even_when_the_file_is_the_same(rig: Rig) -> None:
    rig.names.answers["web"] = ["10.0.0.1"]
    await rig.start(["web"])
    rig.names.answers["web"] = ["10.0.0.2"]
    rig.source.reload()
    async with asyncio.timeout(5):
        while len(rig.published) < 2:
            await asyncio.sleep(0)
    assert rig.published[1] == endpoints("10.0.0.2:80 web")


@pytest.mark.asyncio
async def test_a_reload_before_start_and_after_stop_does_nothing(rig: Rig) -> None:
    rig.source.reload()
    await rig.start(["10.0.0.1"])
    await rig.source.stop()
    rig.source.reload()
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.asyncio
async def test_names_are_looked_up_every_thirty_seconds(rig: Rig) -> None:
    rig.names.answers["web"] = ["10.0.0.1"]
    await rig.start(["web"])
    await rig.sleep.end_one(29)
    assert len(rig.names.asked) == 1
    rig.names.answers["web"] = ["10.0.0.2"]
    await rig.sleep.end_one()
    assert rig.published[1:] == [endpoints("10.0.0.2:80 web")]
    await rig.sleep.end_one(30)
    assert len(rig.names.asked) == 3


@pytest.mark.asyncio
async def test_a_list_of_which_no_name_resolves_keeps_the_last_snapshot(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.start(["10.0.0.1"])
    rig.write(["web"])
    await rig.sleep.end_one(30)
    assert len(rig.published) == 1
    assert len(logged(caplog, logging.ERROR)) == 1
    assert "web: Name or service not known" in logged(caplog, logging.ERROR)[0]
    rig.names.answers["web"] = ["10.0.0.2"]
    await rig.sleep.end_one(30)
    assert rig.published[1:] == [endpoints("10.0.0.2:80 web")]


@pytest.mark.asyncio
async def test_a_stuck_file_system_holds_up_neither_the_loop_nor_stop(tmp_path: Path) -> None:
    stuck, freed = threading.Event(), threading.Event()
    published: list[Snapshot] = []

    def read(path: str, known: Signature | None) -> Reading:
        if not published:
            return Reading((1, 1, 1, 1), b'["10.0.0.1"]')
        stuck.set()
        freed.wait(9)
        return Reading((2, 2, 2, 2), b'["10.0.0.2"]')

    source = FileSource("f", 80, sleep=FakeSleep(), read=read)
    try:
        await source.start(published.append)
        source.reload()
        async with asyncio.timeout(5):
            while not stuck.is_set():
                await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await source.stop()
    finally:
        freed.set()
    await asyncio.get_running_loop().run_in_executor(None, stuck.wait)
    assert published == [endpoints("10.0.0.1:80")]


@pytest.mark.asyncio
async def test_an_unforeseen_error_does_not_end_the_looking(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    await rig.start(["10.0.0.1"])
    rig.names.answers["web"] = ZeroDivisionError()
    rig.write(["web"])
    await rig.sleep.end_one()
    assert "the last snapshot stays" in caplog.text
    rig.write(["10.0.0.2"])
    await rig.sleep.end_one()
    assert rig.published[1:] == [endpoints("10.0.0.2:80")]
