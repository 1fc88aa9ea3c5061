"""Very many connections leave nothing behind: no descriptor, no object, no memory. `make soak` makes a million."""

from __future__ import annotations

import asyncio
import json
import os
import re
import select
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

if not hasattr(select, "epoll"):
    pytest.skip("epoll is there on Linux only", allow_module_level=True)

from tests.eventloop import many_clients, many_connections
from tests.eventloop.conformance import OnLoop
from tests.fakes import eventually
from tests.integration.processes import ROOT, LoadBalancer

MEBIBYTE = 1 << 20
COUNTS = [
    pytest.param(50_000, marks=[pytest.mark.slow, pytest.mark.timeout(120)]),
    pytest.param(1_000_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
]


def show(held: dict[str, Any]) -> None:
    """Print what is held: `make soak` shows it at once."""
    print(*(f"{name} {value}" for name, value in held.items()), sep=", ", flush=True)


@pytest.mark.parametrize("count", COUNTS)
def test_a_loop_holds_the_same_after_very_many_connections(count: int) -> None:
    program = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.eventloop.many_connections", str(count)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout is not None
        lines = []
        for line in program.stdout:
            lines.append(json.loads(line))
            show(lines[-1])
        assert program.wait(10) == 0
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
    first, last, ends = lines[0], lines[-2], lines[-1]["ends"]
    assert last["connections"] == count
    assert sum(ends.values()) == count
    for end, share in Counter(many_connections.ENDS).items():
        seen = sum(number for name, number in ends.items() if name.partition(", ")[0] == end)
        assert seen == count * share // len(many_connections.ENDS)
    assert last["descriptors"] == first["descriptors"]
    assert abs(last["objects"] - first["objects"]) <= 100
    assert last["resident"] - first["resident"] <= 2 * MEBIBYTE


@pytest.mark.parametrize("count", COUNTS)
def test_podlb_holds_the_same_after_very_many_clients(on_epoll: OnLoop, count: int) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        backend = await loop.create_server(many_clients.Backend, "127.0.0.1", 0)
        address = "{}:{}".format(*backend.sockets[0].getsockname())
        # So that what is kept for the next request is gone when it is counted.
        settings = ("--loop=epoll", f"--backends={address}", "--upstream-idle-timeout=0.2", "--max-connections=1000")
        start = loop.run_in_executor(None, lambda: LoadBalancer(*settings))
        with await start as balancer:
            ends: Counter[str] = Counter()
            held: list[dict[str, int]] = []
            at_rest = len(os.listdir(f"/proc/{balancer.pid}/fd"))

            def is_at_rest() -> bool:
                return len(os.listdir(f"/proc/{balancer.pid}/fd")) == at_rest

            tenth = count // 10
            for number in range(10):
                ends += await many_clients.visit(balancer.port, tenth, number * (tenth // many_clients.AT_ONCE))
                await loop.run_in_executor(None, eventually, is_at_rest, "the end of every connection")
                held.append({"connections": (number + 1) * tenth, "resident": balancer.resident()})
                show(held[-1])
            assert sum(ends.values()) == count
            assert held[-1]["resident"] - held[0]["resident"] <= 2 * MEBIBYTE
            assert balancer.errors == []
            assert [line for line in balancer.lines if re.search(r"\[(WARN|ERROR)", line)] == []
        backend.close()
        await backend.wait_closed()

    on_epoll(main, seconds=3600)
