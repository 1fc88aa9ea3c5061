"""`podlb top` on a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

from tests.fakes import DEADLINE
from tests.integration.processes import ROOT, _without_settings


class Terminal:
    """`podlb top` on a terminal of its own. `text` is what it has written so far."""

    def __init__(self, *arguments: str, term: str = "xterm-256color") -> None:
        self.text = ""
        self.ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
        self.modes_before = termios.tcgetattr(self.theirs)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lb", "top", *arguments],
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            cwd=ROOT,
            env=_without_settings() | {"TERM": term},
            start_new_session=True,
            # So that Ctrl-C is a signal, as on any terminal.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)

    def wait_for(self, pattern: str, count: int = 1) -> None:
        """Read until so many matches of `pattern` have been written."""
        deadline = time.monotonic() + DEADLINE
        while len(re.findall(pattern, self.text, re.DOTALL)) < count:
            left = deadline - time.monotonic()
            assert left > 0, f"no {pattern!r} ({count} times) in {self.text[-3000:]!r}"
            if select.select([self.ours], [], [], left)[0]:
                self.text += os.read(self.ours, 65536).decode("utf-8", "replace")

    def ends(self) -> int:
        """Return its exit code; the terminal must be as it was before."""
        self.wait_for(r"\x1b\[\?1049l(?!.*\x1b\[\?1049h)")
        self.wait_for(r"\x1b\[\?25h(?!.*\x1b\[\?25l)")
        code = self.process.wait(DEADLINE)
        assert termios.tcgetattr(self.theirs) == self.modes_before
        return code
