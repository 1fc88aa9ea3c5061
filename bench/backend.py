"""What stands behind every contender: nginx, or a stand-in for it, and what they serve."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

from bench.peers.nginx import Content, backend_argv
from bench.peers.peer import Setting
from bench.proc import HOST

SMALL_BODY = b"hello from the backend\n"
"""Answered on every other path."""

BULK_PATH = "/1MiB"
BULK_BODY = random.Random(1).randbytes(2**20)
"""No part of it looks like another: a piece that is lost or in the wrong place is seen."""

MEDIUM_PATH = "/64KiB"
MEDIUM_BODY = BULK_BODY[: 2**16]
CHUNKED_PATH = "/64KiB-chunked"
"""MEDIUM_BODY, in chunks."""
HUGE_PATH = "/100MiB"
HUGE_BODY_BYTES = 100 * 2**20
CLOSE_PATH = "/close"
"""Answered as everything else, and the connection is closed behind it."""
ADDRESS_PATH = "/address"
"""Answered with the address of the endpoint that was asked."""

FALLBACK = "a small asyncio server, since nginx is missing: figures are NOT comparable with others"
OF_FALLBACK = ("small", "browser", "connect", "bulk")
"""The scenarios for which it is good enough."""


def has_nginx() -> bool:
    return shutil.which("nginx") is not None


def describe() -> str:
    """What the table says of the backend."""
    return "nginx" if has_nginx() else FALLBACK


def argv(setting: Setting) -> list[str]:
    """The command of the backend that is there. The stand-in for nginx has one address."""
    if has_nginx():
        files = {MEDIUM_PATH: MEDIUM_BODY, BULK_PATH: BULK_BODY, HUGE_PATH: BULK_BODY * 100}
        chunked = {CHUNKED_PATH: MEDIUM_BODY}
        return backend_argv(setting, Content(SMALL_BODY, files, chunked, CLOSE_PATH, ADDRESS_PATH))
    return [sys.executable, "-m", "bench.fallback_backend", str(setting.port)]


def _echo_argv(setting: Setting) -> list[str]:
    return [sys.executable, "-m", "bench.echo_backend", str(setting.port)]


@dataclass(frozen=True)
class Behind:
    """What stands behind the contenders: a backend, and on how many addresses it is an endpoint to them."""

    argv: Callable[[Setting], list[str]]
    endpoints: int = 1

    def addresses(self, port: int) -> tuple[str, ...]:
        """HOST alone, or as many other addresses of the loopback as there are endpoints (Linux has all of 127/8)."""
        if self.endpoints == 1:
            return (f"{HOST}:{port}",)
        return tuple(f"127.1.{index // 250}.{index % 250 + 1}:{port}" for index in range(self.endpoints))


USUAL = Behind(argv)
MANY = Behind(argv, endpoints=1000)
ECHO = Behind(_echo_argv)
"""A server of WebSockets, bench/echo_backend.py."""
