"""The load: wrk, its scenarios, and what its report says."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench.proc import HOST, BenchError, pinned

WRK_INSTALL = "apt install wrk (Debian, Ubuntu) or brew install wrk (macOS)"


@dataclass(frozen=True)
class Scenario:
    """One kind of load. `script` is a Lua file for wrk, beside this module; without one wrk repeats `GET /`."""

    name: str
    title: str
    connections: int = 64
    script: str | None = None


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("small", "keep-alive GET, the same small head each time, 64 connections"),
        Scenario(
            "browser", "keep-alive GET, browser-sized heads that all differ, 64 connections", script="browser.lua"
        ),
    )
}


class LoadResult(NamedTuple):
    """What wrk saw in one measurement."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    non_2xx: int
    socket_errors: int


_TOTAL = re.compile(r"^\s*(\d+) requests in ([\d.]+)(us|ms|s|m|h),", re.MULTILINE)
_PERCENTILE = re.compile(r"^\s*(50|99)(?:\.\d+)?%\s+([\d.]+)(us|ms|s|m|h)\s*$", re.MULTILINE)
_SOCKET_ERRORS = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")
_NON_2XX = re.compile(r"Non-2xx or 3xx responses: (\d+)")
_UNIT_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0, "h": 3_600_000.0}


def parse_wrk(output: str) -> LoadResult:
    """Read the report of `wrk --latency`. BenchError when it is not one."""
    total = _TOTAL.search(output)
    latency = {mark: float(number) * _UNIT_MS[unit] for mark, number, unit in _PERCENTILE.findall(output)}
    if total is None or latency.keys() != {"50", "99"}:
        raise BenchError(f"wrk printed no report that can be read:\n{output.strip() or '(nothing)'}")
    socket_errors = _SOCKET_ERRORS.search(output)
    non_2xx = _NON_2XX.search(output)
    return LoadResult(
        requests=int(total[1]),
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
    if scenario.script is not None:
        argv += ["-s", str(Path(__file__).with_name(scenario.script))]
    with pinned(core):
        done = subprocess.run([*argv, f"http://{HOST}:{port}/"], capture_output=True, text=True, timeout=seconds + 30)
    if done.returncode != 0:
        raise BenchError(f"wrk ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return parse_wrk(done.stdout)
