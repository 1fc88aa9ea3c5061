"""Loads that wrk cannot make: modules of ours, each run as a process, and how a run talks with them.

`python -m MODULE PORT CONNECTIONS SECONDS` opens its connections and prints `ready`; at a line on its standard input it
begins, and after SECONDS prints a LoadResult as one line of JSON; it closes its connections when its input ends. So
what is measured has no start and no end in it, and memory is read while all connections are there.
"""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from bench.load import LoadResult, Scenario, run_wrk
from bench.proc import ROOT, BenchError, pinned

ANSWER_TIMEOUT = 5.0
"""Seconds for a connect, and for the answer to a handshake."""
SHORTEST_SECONDS = 0.001
"""What a load is said to have taken that had no connection left at once."""
_GRACE = 30.0
_WATCH_SECONDS = 0.1

Load = Callable[[Callable[[], None]], LoadResult]
"""Makes the load. While it lasts, what it is given is called ten times a second, unless the load is wrk."""


class Client(Protocol):
    """A load, its connections open."""

    def run(self, seconds: float) -> LoadResult: ...

    def close(self) -> None: ...


def serve(make: Callable[[int, int], Client], argv: Sequence[str]) -> None:
    """What a client module does as a program; `make` opens so many connections to a port."""
    port, connections, seconds = map(int, argv)
    with contextlib.closing(make(port, connections)) as client:
        print("ready", flush=True)
        if not sys.stdin.readline():
            return
        print(json.dumps(client.run(seconds)._asdict()), flush=True)
        sys.stdin.read()


def percentile_ms(seconds: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile of times that are in order, in milliseconds; 0 of none."""
    return seconds[max(0, -(-len(seconds) * percent // 100) - 1)] * 1000 if seconds else 0.0


def _nothing() -> None:
    pass


def _line(client: subprocess.Popen[str], name: str, timeout: float, watch: Callable[[], None] = _nothing) -> str:
    """The next line of a client, which prints none before it was told to go on; BenchError when none comes."""
    assert client.stdout is not None
    deadline = time.monotonic() + timeout
    while not select.select([client.stdout], [], [], min(timeout, _WATCH_SECONDS))[0] and time.monotonic() < deadline:
        watch()
    line = client.stdout.readline() if select.select([client.stdout], [], [], 0)[0] else ""
    if line:
        return line
    client.kill()
    _, errors = client.communicate()
    raise BenchError(f"{name} ended, or said nothing for {timeout:g} s:\n{errors.strip()}")


@contextlib.contextmanager
def prepared(scenario: Scenario, port: int, seconds: int, core: int | None) -> Iterator[Load]:
    """Everything up to the first request of a measurement; calling what is yielded makes it.

    The connections of our own clients stay open until the end of the block; wrk opens and closes its own.
    """
    if scenario.client is None:
        yield lambda _watch: run_wrk(scenario, port, seconds, core)
        return
    name = scenario.client
    argv = [sys.executable, "-m", name, str(port), str(scenario.connections), str(seconds)]
    with pinned(core):
        client = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
    with client:
        stdin = client.stdin
        assert stdin is not None

        def run(watch: Callable[[], None]) -> LoadResult:
            with contextlib.suppress(BrokenPipeError):  # one that has ended is named below, with what it said
                stdin.write("go\n")
                stdin.flush()
            return LoadResult(**json.loads(_line(client, name, seconds + _GRACE, watch)))

        try:
            _line(client, name, scenario.connections * ANSWER_TIMEOUT + _GRACE)
            yield run
            stdin.close()
            client.wait(_GRACE)
        finally:
            client.kill()
