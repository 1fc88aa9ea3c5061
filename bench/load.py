"""The load: every scenario, and wrk, which makes most of them, and what its report says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench.backend import (
    BULK_BODY,
    BULK_PATH,
    CHUNKED_PATH,
    CLOSE_PATH,
    ECHO,
    HUGE_BODY_BYTES,
    HUGE_PATH,
    MANY,
    MEDIUM_BODY,
    MEDIUM_PATH,
    USUAL,
    Behind,
)
from bench.checks import require_chunked_body, require_every_endpoint, require_whole_body
from bench.peers import REFERENCE, TCP_REFERENCE
from bench.peers.peer import TCP
from bench.proc import HOST, BenchError, pinned

WRK_INSTALL = "apt install wrk (Debian, Ubuntu) or brew install wrk (macOS)"


@dataclass(frozen=True)
class Scenario:
    """One kind of load. `script` is a Lua file for wrk, beside this module; without a request of its own wrk repeats
    `GET path` with `fields` (`Name: value`) in the head.
    """

    name: str
    title: str
    connections: int = 64
    script: str = "totals.lua"
    path: str = "/"
    fields: tuple[str, ...] = ()
    body_bytes: int | None = None
    """The length of every response's body, where it is a long one."""
    is_by_byte: bool = False
    """Is cost counted by byte, not by request?"""
    check: Callable[[str, int], None] | None = None
    """Tried once on each contender, by name and port, before it is measured. It raises BenchError."""
    client: str | None = None
    """The module that makes the load in the place of wrk, see bench/clients.py."""
    anew: Behind | None = None
    """What stands behind the contenders when they are started anew for this scenario; None: it shares the usual
    start with others."""
    is_warmed_each_time: bool = False
    """Is there a second of load, which is not counted, before every measurement?"""
    reference: str = REFERENCE
    """The contender that ratios are relative to."""
    impossible: str | None = None
    """Why it can't be measured on this system, where it can't."""


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("small", "keep-alive GET, the same small head each time, 64 connections"),
        Scenario(
            "browser", "keep-alive GET, browser-sized heads that all differ, 64 connections", script="browser.lua"
        ),
        Scenario("post", "keep-alive POST of 16 KiB, 64 connections", script="post.lua"),
        Scenario(
            "medium",
            "keep-alive GET, responses of 64 KiB, 64 connections",
            path=MEDIUM_PATH,
            body_bytes=len(MEDIUM_BODY),
        ),
        Scenario(
            "chunked",
            "keep-alive GET, responses of 64 KiB in chunks, 64 connections",
            path=CHUNKED_PATH,
            body_bytes=len(MEDIUM_BODY),
            check=require_chunked_body,
        ),
        Scenario("connect", "GET on a new client connection each time, 64 at a time", fields=("Connection: close",)),
        Scenario(
            "upstream-connect",
            "keep-alive GET, the backend closes behind each response, 64 connections",
            path=CLOSE_PATH,
        ),
        Scenario(
            "bulk",
            "keep-alive GET, responses of 1 MiB, 16 connections",
            connections=16,
            path=BULK_PATH,
            body_bytes=len(BULK_BODY),
            is_by_byte=True,
            check=require_whole_body,
        ),
        Scenario(
            "huge",
            "keep-alive GET, responses of 100 MiB, 4 connections",
            connections=4,
            path=HUGE_PATH,
            body_bytes=HUGE_BODY_BYTES,
            is_by_byte=True,
            check=require_whole_body,
        ),
        Scenario(
            "slow-client",
            "200 clients that each read 1 MiB responses at 256 KiB/s; memory while they do",
            connections=200,
            is_by_byte=True,
            check=require_whole_body,
            client="bench.slow_client",
            # Memory that other loads left behind would be counted.
            anew=USUAL,
        ),
        Scenario(
            "endpoints",
            f"the load of small, {MANY.endpoints} endpoints",
            check=require_every_endpoint,
            anew=MANY,
            # Connections that were closed in the others' turns would be counted: a thousand connects.
            is_warmed_each_time=True,
            impossible=None if sys.platform == "linux" else "the loopback has one address here",
        ),
        Scenario(TCP, "the load of small through balancers of connections", reference=TCP_REFERENCE),
        Scenario(
            "websocket",
            "text frames of 100 bytes and their echoes, 64 WebSockets; a request is a message and its echo",
            client="bench.websocket_client",
            anew=ECHO,
        ),
    )
}


class LoadResult(NamedTuple):
    """What wrk, or another client, saw in one measurement."""

    requests: int
    """Requests that were answered to the end of the body; in `slow-client` those whose answer began."""
    bytes_read: int
    """Heads and bodies, those that were under way when the time was up included."""
    seconds: float
    p50_ms: float
    p99_ms: float
    non_2xx: int
    socket_errors: int
    """Refused and reset connections, time-outs, and responses that ended before their body did."""
    wrong: int = 0
    """Bodies and echoes that were not what was sent, where the client looks at them."""


_TOTAL = re.compile(r"^\s*(\d+) requests in ([\d.]+)(us|ms|s|m|h),", re.MULTILINE)
_BYTES = re.compile(r"^bytes read: (\d+)$", re.MULTILINE)
_PERCENTILE = re.compile(r"^\s*(50|99)(?:\.\d+)?%\s+([\d.]+)(us|ms|s|m|h)\s*$", re.MULTILINE)
_SOCKET_ERRORS = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")
_NON_2XX = re.compile(r"Non-2xx or 3xx responses: (\d+)")
_UNIT_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0, "h": 3_600_000.0}


def parse_wrk(output: str) -> LoadResult:
    """Read the report of `wrk --latency` and the line that totals.lua adds. BenchError when it is not one."""
    total, bytes_read = _TOTAL.search(output), _BYTES.search(output)
    latency = {mark: float(number) * _UNIT_MS[unit] for mark, number, unit in _PERCENTILE.findall(output)}
    if total is None or bytes_read is None or latency.keys() != {"50", "99"}:
        raise BenchError(f"wrk printed no report that can be read:\n{output.strip() or '(nothing)'}")
    socket_errors = _SOCKET_ERRORS.search(output)
    non_2xx = _NON_2XX.search(output)
    return LoadResult(
        requests=int(total[1]),
        bytes_read=int(bytes_read[1]),
        seconds=float(total[2]) * _UNIT_MS[total[3]] / 1000,
        p50_ms=latency["50"],
        p99_ms=latency["99"],
        non_2xx=int(non_2xx[1]) if non_2xx else 0,
        socket_errors=sum(map(int, socket_errors.groups())) if socket_errors else 0,
    )


def require_wrk() -> None:
    """BenchError that tells how to install wrk, when it is missing."""
    if shutil.which("wrk") is None:
        raise BenchError(f"wrk is missing, nothing can be measured without it: {WRK_INSTALL}")


def run_wrk(scenario: Scenario, port: int, seconds: int, core: int | None) -> LoadResult:
    """Load a port of this machine for whole seconds, from one thread on one core."""
    argv = ["wrk", "--latency", "-t1", f"-c{scenario.connections}", f"-d{seconds}s"]
    argv += ["-s", str(Path(__file__).with_name(scenario.script))]
    for field in scenario.fields:
        argv += ["-H", field]
    argv.append(f"http://{HOST}:{port}{scenario.path}")
    with pinned(core):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 30)
    if done.returncode != 0:
        raise BenchError(f"wrk ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return parse_wrk(done.stdout)


def short_bodies(scenario: Scenario, result: LoadResult) -> int:
    """How many bodies' worth of bytes are missing, at least, in what wrk took for complete responses.

    A response that ends before its announced length is a socket error to wrk; this sees lengths that lie.
    """
    if scenario.body_bytes is None:
        return 0
    missing = result.requests * scenario.body_bytes - result.bytes_read
    return max(0, -(-missing // scenario.body_bytes))
