"""The log writer: it never holds anybody up, and loses nothing without saying so."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from lb import logs
from lb.logs import QUEUE_LIMIT, LineFormatter, LogWriter, start_logging

LINE = re.compile(
    r"\[lb\] \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z test_logs_writer\.py:\d+ \[(DEBUG|INFO|WARN|ERROR)\] (.*)"
)

log = logging.getLogger("lb.tests")


class Pipe:
    """A pipe whose reading end is read on request only."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def read_all(self) -> list[str]:
        """Close the writing end and return the lines."""
        self.close_writer()
        lines: list[str] = []
        self._read_into(lines)
        return lines

    def start_reading(self) -> tuple[list[str], threading.Thread]:
        """Return a list that a thread fills with lines, and that thread; it ends when the writing end is closed."""
        lines: list[str] = []
        thread = threading.Thread(target=self._read_into, args=(lines,))
        thread.start()
        return lines, thread

    def _read_into(self, lines: list[str]) -> None:
        with open(self.reader, encoding="utf-8", newline="\n", closefd=False) as file:
            lines.extend(line.rstrip("\n") for line in file)

    def close_writer(self) -> None:
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def close_reader(self) -> None:
        if self.reader >= 0:
            os.close(self.reader)
            self.reader = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close_writer()
    pipe.close_reader()


@pytest.fixture
def start(pipe: Pipe) -> Iterator[Callable[..., LogWriter]]:
    started: list[LogWriter] = []

    def start(level: str = "info", fd: int | None = None) -> LogWriter:
        started.append(start_logging(level, fd=pipe.writer if fd is None else fd))
        return started[-1]

    yield start
    for writer in started:
        writer.close(0)
        writer._thread.join(5)
        assert not writer._thread.is_alive()


def message_of(line: str) -> str:
    return line.partition("] ")[2].partition("] ")[2]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 5 s"
        time.sleep(0.001)


def test_lines_arrive_in_order_and_closing_flushes(pipe: Pipe, start: Callable[..., LogWriter]) -> None:
    writer = start()
    for number in range(100):
        log.info("line %d", number)
    writer.close(5)
    matches = [LINE.fullmatch(line) for line in pipe.read_all()]
    assert [match and match[2] for match in matches] == [f"line {number}" for number in range(100)]


def test_the_level_decides(pipe: Pipe, start: Callable[..., LogWriter]) -> None:
    writer = start("warn")
    log.info("too low")
    log.warning("a")
    log.error("b")
    writer.close(5)
    assert [line.partition("[")[2].rpartition("[")[2] for line in pipe.read_all()] == ["WARN] a", "ERROR] b"]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="one of debug, info, warn, error"):
        start_logging("warning")


def test_tracebacks_are_for_debug_only(pipe: Pipe, start: Callable[..., LogWriter]) -> None:
    for level in ("info", "debug"):
        writer = start(level)
        try:
            raise ValueError("x")
        except ValueError:
            log.exception("at %s", level)
        writer.close(5)
    lines = pipe.read_all()
    assert lines[0].endswith("at info: ValueError: x")
    assert lines[1].endswith("at debug: ValueError: x")
    assert lines[2] == "    Traceback (most recent call last):"


def test_asyncio_speaks_in_the_same_log(pipe: Pipe, start: Callable[..., LogWriter]) -> None:
    writer = start("debug")
    logging.getLogger("asyncio").error("a callback raised")
    logging.getLogger("asyncio").debug("poll took 1 ms")
    writer.close(5)
    lines = pipe.read_all()
    assert len(lines) == 1
    assert lines[0].endswith("[ERROR] a callback raised")


def test_loggers_are_given_back_as_they_were(start: Callable[..., LogWriter]) -> None:
    loggers = [logging.getLogger("lb"), logging.getLogger("asyncio")]
    before = [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    writer = start("debug")
    assert [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers] != before
    writer.close(5)
    writer.close(5)
    assert [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers] == before


def test_a_wrong_log_call_is_a_line_and_nothing_else(
    pipe: Pipe, start: Callable[..., LogWriter], capfd: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

        __repr__ = __str__

    writer = start()
    log.info("%d", "text")
    log.info(Broken())
    log.info("%s", Broken())
    try:
        raise ValueError(Broken())
    except ValueError:
        log.exception("the error can't be shown")
    writer.close(5)
    messages = [line.partition("[INFO] ")[2] or line.partition("[ERROR] ")[2] for line in pipe.read_all()]
    assert messages == [
        "%d (this log call failed: TypeError)",
        "Broken (this log call failed: RuntimeError)",
        "%s (this log call failed: RuntimeError)",
        "the error can't be shown (this log call failed: RuntimeError)",
    ]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("blocking", [True, False])
def test_a_full_stdout_costs_lines_and_never_time(pipe: Pipe, start: Callable[..., LogWriter], blocking: bool) -> None:
    os.set_blocking(pipe.writer, blocking)
    writer = start()
    text = "x" * 1000
    logged = 3 * QUEUE_LIMIT // len(text)
    for number in range(logged):  # nobody reads: if this waited, the test would run into its time limit
        log.info("%d %s", number, text)
    dropped = writer.dropped
    assert 0 < dropped < logged
    assert writer._bytes_queued - writer._bytes_taken <= QUEUE_LIMIT

    lines, reading = pipe.start_reading()
    until(lambda: writer._bytes_queued == writer._bytes_taken)
    log.info("room again")
    writer.close(5)
    pipe.close_writer()
    reading.join(5)

    messages = [message_of(line) for line in lines]
    kept = logged - dropped
    assert [message.split(" ")[0] for message in messages[:kept]] == [str(number) for number in range(kept)]
    assert all(len(message) > 1000 for message in messages[:kept])
    assert messages[kept:] == [
        f"{dropped} log lines dropped: this log was not read or stored fast enough",
        "room again",
    ]
    assert "logs.py:" in lines[kept]
    assert "[WARN]" in lines[kept]


def test_one_notice_tells_of_a_long_stretch(pipe: Pipe) -> None:
    writer = LogWriter(LineFormatter("lb"), pipe.writer)
    line = b"x" * 999 + b"\n"
    while not writer.dropped:
        writer._put(line)
    reader = io.FileIO(pipe.reader, closefd=False)
    received = bytearray()
    while writer._bytes_queued - writer._bytes_taken > QUEUE_LIMIT * 3 // 4:
        received += reader.read(65536) or b""
    writer._put(line)  # there is room by now, but not yet half
    assert writer.dropped == 2
    while writer._bytes_queued - writer._bytes_taken > QUEUE_LIMIT // 2:
        received += reader.read(65536) or b""
    writer._put(line)
    assert writer.dropped == 2
    lines, reading = pipe.start_reading()
    writer.close(5)
    pipe.close_writer()
    reading.join(5)
    text = received.decode() + "\n".join(lines)
    assert text.count("2 log lines dropped") == 1
    assert text.endswith("x" * 999)


def test_closing_gives_up_in_time_when_nobody_reads(pipe: Pipe, start: Callable[..., LogWriter]) -> None:
    writer = start()
    for _ in range(200):
        log.info("x" * 1000)
    before = time.monotonic()
    writer.close(0.05)
    assert time.monotonic() - before < 2
    until(lambda: not writer._thread.is_alive())


@pytest.mark.parametrize("blocking", [True, False])
def test_a_reader_that_is_gone_ends_the_log_quietly(
    pipe: Pipe, start: Callable[..., LogWriter], capfd: pytest.CaptureFixture[str], blocking: bool
) -> None:
    os.set_blocking(pipe.writer, blocking)
    writer = start()
    pipe.close_reader()
    log.info("into the void")
    until(lambda: not writer._thread.is_alive())
    log.info("and another")
    writer.close(5)
    assert writer._queue.qsize() == 0
    assert capfd.readouterr() == ("", "")


def test_partial_writes_and_a_full_pipe_lose_nothing(
    pipe: Pipe, start: Callable[..., LogWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    calls = []

    def grudging_write(fd: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) % 3 == 0:
            raise BlockingIOError(errno.EAGAIN, "full")
        return write(fd, data[:7])

    monkeypatch.setattr(logs.os, "write", grudging_write)
    writer = start()
    log.info("a" * 50)
    log.info("b" * 50)
    writer.close(5)
    monkeypatch.undo()
    assert [message_of(line) for line in pipe.read_all()] == ["a" * 50, "b" * 50]
    assert len(calls) > 10


def test_a_full_disk_costs_lines_and_is_told_later(
    pipe: Pipe, start: Callable[..., LogWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    is_full = True
    free = 10

    def write_to_disk(fd: int, data: bytes) -> int:
        nonlocal free
        if not is_full:
            return write(fd, data)
        if not free:
            raise OSError(errno.ENOSPC, "No space left on device")
        written, free = write(fd, data[:free]), 0
        return written

    monkeypatch.setattr(logs.os, "write", write_to_disk)
    writer = start()
    log.info("lost")
    until(lambda: writer.dropped == 1)
    is_full = False
    log.info("kept")
    writer.close(5)
    monkeypatch.undo()
    lines = pipe.read_all()
    assert lines[0] == lines[1][:10]  # the half line stays a line of its own
    told = "1 log line dropped: this log was not read or stored fast enough"
    assert sorted(message_of(line) for line in lines[1:]) == [told, "kept"]


def test_lines_of_many_threads_stay_whole(pipe: Pipe, start: Callable[..., LogWriter]) -> None:
    writer = start()

    def work(name: str) -> None:
        for number in range(50):
            log.info("%s %d %s", name, number, name * 200)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    lines, reading = pipe.start_reading()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    writer.close(5)
    pipe.close_writer()
    reading.join(5)
    assert len(lines) == 200
    for line in lines:
        match = LINE.fullmatch(line)
        assert match is not None
        name, _, body = match[2].split(" ")
        assert body == name * 200
