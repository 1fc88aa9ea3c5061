"""What stands behind every contender: nginx, or a stand-in for it, and what they serve."""

from __future__ import annotations

import random
import shutil
import sys

from bench.peers.nginx import backend_argv
from bench.peers.peer import Setting

SMALL_BODY = b"hello from the backend\n"
"""Answered to everything else than BULK_PATH."""

BULK_PATH = "/1MiB"
BULK_BODY = random.Random(1).randbytes(2**20)
"""No part of it looks like another: a piece that is lost or in the wrong place is seen."""

MEDIUM_PATH = "/64KiB"
MEDIUM_BODY = BULK_BODY[: 2**16]
HUGE_PATH = "/100MiB"
HUGE_BODY_BYTES = 100 * 2**20
CLOSE_PATH = "/close"
"""Answered as everything else, and the connection is closed behind it."""

FALLBACK = "a small asyncio server, since nginx is missing: figures are NOT comparable with others"
OF_FALLBACK = ("small", "browser", "connect", "bulk")
"""The scenarios for which it is good enough."""


def has_nginx() -> bool:
    return shutil.which("nginx") is not None


def describe() -> str:
    """What the table says of the backend."""
    return "nginx" if has_nginx() else FALLBACK


def argv(setting: Setting) -> list[str]:
    """The command of the backend that is there; `setting.backends` is not used."""
    if has_nginx():
        files = {MEDIUM_PATH: MEDIUM_BODY, BULK_PATH: BULK_BODY, HUGE_PATH: BULK_BODY * 100}
        return backend_argv(setting, SMALL_BODY, files, close_path=CLOSE_PATH)
    return [sys.executable, "-m", "bench.fallback_backend", str(setting.port)]
