"""Keys on a terminal, and what becomes of the terminal."""

from __future__ import annotations

import io
import os
import pty
import termios
import time
from collections.abc import Iterator

import pytest

from lb.top_keys import Key, keys


class Terminal:
    """Stands in for stdin. What is written to `keyboard` was typed."""

    def __init__(self) -> None:
        self.keyboard, self._fd = pty.openpty()

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def modes(self) -> list[object]:
        return list(termios.tcgetattr(self._fd))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    made = Terminal()
    monkeypatch.setattr("sys.stdin", made)
    yield made
    os.close(made.keyboard)
    os.close(made.fileno())


@pytest.mark.parametrize(
    ("typed", "key"),
    [(b"q", Key.QUIT), (b"Q", Key.QUIT), (b"xq", Key.QUIT), (b"\x1a", Key.SUSPEND), (b"x\x1b[A\n", Key.NONE)],
)
def test_what_a_key_means(typed: bytes, key: Key, terminal: Terminal) -> None:
    with keys() as key_within:
        os.write(terminal.keyboard, typed)
        assert key_within(0.05 if key is Key.NONE else 5.0) is key


def test_it_waits_no_longer_than_it_is_told(terminal: Terminal) -> None:
    with keys() as key_within:
        began = time.monotonic()
        assert key_within(0.05) is Key.NONE
        assert time.monotonic() - began >= 0.05
        assert key_within(0.0) is Key.NONE


def test_the_terminal_is_as_it_was_whatever_happens(terminal: Terminal) -> None:
    before = terminal.modes()

    def interrupted() -> None:
        with keys():
            assert terminal.modes() != before
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert terminal.modes() == before


@pytest.mark.parametrize("stdin", [io.StringIO("q"), None])
def test_without_a_terminal_there_are_no_keys(stdin: io.StringIO | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", stdin)
    with keys() as key_within:
        assert key_within(0.01) is Key.NONE
