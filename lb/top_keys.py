"""SHELL: the keys that are pressed while `podlb top` shows frames."""

from __future__ import annotations

import enum
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_CONTROL_CHARACTERS = 6
_CTRL_Z = b"\x1a"


class Key(enum.Enum):
    """What was asked for."""

    NONE = "none"
    QUIT = "quit"
    SUSPEND = "suspend"


@contextmanager
def keys() -> Iterator[Callable[[float], Key]]:
    """Have keys come one by one; yield what waits so many seconds for one that means something.

    Ctrl-Z comes as a key too, so that the terminal can be left as it was before. Afterwards the terminal is as it was.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        yield _sleep
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd, termios.TCSANOW)
        modes = termios.tcgetattr(fd)
        modes[_CONTROL_CHARACTERS][termios.VSUSP] = os.fpathconf(fd, "PC_VDISABLE").to_bytes(1, "big")
        termios.tcsetattr(fd, termios.TCSANOW, modes)
        yield lambda seconds: _wait(fd, seconds)
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)


def _sleep(seconds: float) -> Key:
    time.sleep(seconds)
    return Key.NONE


def _wait(fd: int, seconds: float) -> Key:
    end = time.monotonic() + seconds
    while select.select([fd], [], [], max(end - time.monotonic(), 0.0))[0]:
        pressed = os.read(fd, 64)
        # (Nothing at all: the terminal has gone.)
        if not pressed or b"q" in pressed.lower():
            return Key.QUIT
        if _CTRL_Z in pressed:
            return Key.SUSPEND
    return Key.NONE
