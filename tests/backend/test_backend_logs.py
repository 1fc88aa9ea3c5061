from __future__ import annotations

import io
import logging
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend import logs
from backend.logs import LineFormatter, printable


def record(level: int, message: str, *arguments: object, error: bool = False) -> logging.LogRecord:
    made = logging.LogRecord("backend.x", level, "/some/where/server.py", 42, message, arguments, None)
    made.created = 1_795_501_501.1239
    made.msecs = 123.9
    if error:
        try:
            raise RuntimeError("broken")
        except RuntimeError:
            made.exc_info = sys.exc_info()
    return made


@pytest.mark.parametrize(
    ("level", "name"),
    [(logging.DEBUG, "DEBUG"), (logging.INFO, "INFO"), (logging.WARNING, "WARN"), (logging.ERROR, "ERROR")],
)
def test_a_line_has_component_time_place_level_and_message(level: int, name: str) -> None:
    line = LineFormatter().format(record(level, "listening on %s", "0.0.0.0:8080"))
    assert line == f"[backend] 2026-11-24T06:25:01.123Z server.py:42 [{name}] listening on 0.0.0.0:8080"


def test_a_traceback_follows_its_line() -> None:
    lines = LineFormatter().format(record(logging.ERROR, "it failed", error=True)).splitlines()
    assert lines[0].endswith("[ERROR] it failed")
    assert lines[-1] == "RuntimeError: broken"


def test_lines_go_to_stdout_and_a_closed_one_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    logs.set_up()
    logging.getLogger("backend.test").info("first")
    assert re.fullmatch(
        r"\[backend\] \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z test_backend_logs\.py:\d+ \[INFO\] first\n",
        output.getvalue(),
    )
    output.close()
    logging.getLogger("backend.test").info("second")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/path?a=b&c=%20", "/path?a=b&c=%20"),
        ("a b", r"a\x20b"),
        ("a\r\n[backend]", r"a\x0d\x0a[backend]"),
        ("\x1b[31m\x7f\xe9", r"\x1b[31m\x7f\xe9"),
        ("a\\x20", r"a\x5cx20"),
    ],
)
def test_printable_shows_all_but_visible_ascii_as_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(alphabet=st.characters(max_codepoint=255)))
def test_printable_is_one_word_that_can_be_read_back(text: str) -> None:
    shown = printable(text)
    assert all("!" <= character <= "~" for character in shown)
    assert re.sub(r"\\x(..)", lambda match: chr(int(match[1], 16)), shown) == text
