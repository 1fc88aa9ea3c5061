"""The log line."""

from __future__ import annotations

import logging
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lb.logs import LINE_LIMIT, TRACEBACK_LIMIT, LineFormatter, escape


def record(message: str, level: int = logging.INFO, created: float = 0.0, *args: object) -> logging.LogRecord:
    made = logging.LogRecord("lb", level, "/x/server.py", 42, message, args, None)
    made.created = created
    return made


def test_the_line_has_component_time_place_level_and_message() -> None:
    line = LineFormatter("lb").format(record("listening on %s:%d", logging.INFO, 1795415101.123, "0.0.0.0", 8080))
    assert line == "[lb] 2026-11-23T06:25:01.123Z server.py:42 [INFO] listening on 0.0.0.0:8080"


def test_the_time_is_never_rounded_up_and_follows_the_second() -> None:
    formatter = LineFormatter("lb")
    stamps = [formatter.format(record("x", created=t)).split()[1] for t in (1.9996, 0.0, 1795415101.9999, 2.5)]
    assert stamps == [
        "1970-01-01T00:00:01.999Z",
        "1970-01-01T00:00:00.000Z",
        "2026-11-23T06:25:01.999Z",
        "1970-01-01T00:00:02.500Z",
    ]


@pytest.mark.parametrize(
    ("level", "name"), [(10, "DEBUG"), (20, "INFO"), (30, "WARN"), (40, "ERROR"), (50, "ERROR"), (15, "Level 15")]
)
def test_levels_have_their_short_names(level: int, name: str) -> None:
    assert f" [{name}] x" in LineFormatter("lb").format(record("x", level))


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a\nb", r"a\nb"),
        ("a\r\tb", r"a\r\tb"),
        ("\x1b[31m\x00\x7f", r"\x1b[31m\x00\x7f"),
        ("\x85\x9b", r"\x85\x9b"),
        ("\u2028\u2029\u202e\u2066", r"\u2028\u2029\u202e\u2066"),
        ("\ud800", r"\ud800"),
        ("schön 漢字 \\ 🙂", "schön 漢字 \\ 🙂"),
    ],
)
def test_what_could_break_or_disguise_a_line_is_escaped(raw: str, shown: str) -> None:
    assert escape(raw) == shown


@settings(deadline=None)
@given(st.text(st.characters(codec=None)))
def test_any_message_is_one_line(message: str) -> None:
    line = LineFormatter("lb").format(record("%s", logging.INFO, 0.0, message))
    assert len(line.splitlines()) == 1
    assert escape(line) == line
    assert line.encode()


def test_a_long_message_is_cut() -> None:
    line = LineFormatter("lb").format(record("x" * (LINE_LIMIT + 5)))
    assert line.endswith("x… (5 characters more)")
    assert len(line) < LINE_LIMIT + 100


def failed(message: str) -> logging.LogRecord:
    made = record("it failed", logging.ERROR)
    try:
        raise ValueError(message)
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


FORGED = "bad\n[lb] 1970-01-01T00:00:00.000Z server.py:1 [INFO] all is well\x1b[2J"


def test_an_exception_is_one_line_without_its_traceback() -> None:
    line = LineFormatter("lb").format(failed(FORGED))
    assert r"[ERROR] it failed: ValueError: bad\n[lb] 1970" in line
    assert "\n" not in line
    assert "\x1b" not in line


def test_a_traceback_is_indented_and_escaped() -> None:
    lines = LineFormatter("lb", with_tracebacks=True).format(failed(FORGED)).split("\n")
    assert len(lines) > 3
    assert all(line.startswith("    ") for line in lines[1:])
    assert any("test_logs.py" in line for line in lines[1:])
    assert not any("\x1b" in line for line in lines)


def test_a_traceback_keeps_its_last_lines() -> None:
    lines = LineFormatter("lb", with_tracebacks=True).format(failed("x\n" * 1000 + "the end")).split("\n")
    assert len(lines) == 1 + TRACEBACK_LIMIT
    assert lines[-1] == "    the end"
