"""What idle client connections cost in memory: each made one request and stays open."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from bench.limits import open_files
from bench.measure import Contender, running
from bench.peers import Peer
from bench.peers.podlb_kubernetes import PODLB_KUBERNETES, beside_api_server
from bench.proc import ROOT, BenchError, Cores, pinned
from bench.progress import Began, unseen
from bench.table import Column, render

NAME = "idle"
CONNECTIONS = 10_000
SECONDS_EACH = 8
"""What a contender takes, about: nothing but the progress bar reckons with it."""
LIMITS_MIB = {"podlb-epoll": 70, "podlb-kubernetes": 100}
"""What podlb's resident memory may be with CONNECTIONS of them, as it is and with the client library of Kubernetes."""
SPARE_FILES = 400
_END_TIMEOUT = 10.0


class IdleMemory(NamedTuple):
    """Resident memory of one contender's processes, fresh and with idle connections."""

    peer: str
    connections: int
    before_bytes: int
    """After a single request."""
    with_bytes: int
    """With all connections open, right after the last one had its answer."""
    lost: int
    """Connections that the contender did not keep."""

    @property
    def limit_bytes(self) -> int | None:
        """What it may have with its connections, where there is a limit."""
        limit = LIMITS_MIB.get(self.peer)
        return None if limit is None else limit * 2**20

    @property
    def is_too_large(self) -> bool:
        """Has it more than it may?"""
        return self.limit_bytes is not None and self.with_bytes > self.limit_bytes


def _limit(result: IdleMemory) -> str:
    if result.limit_bytes is None:
        return "-"
    return f"{result.limit_bytes // 2**20}{' !!!' if result.is_too_large else ''}"


def connections_that_fit(hard_limit: int) -> int:
    """CONNECTIONS, or as many as a limit of open files permits: each may take a contender two, podlb counts on that."""
    if hard_limit == resource.RLIM_INFINITY:
        return CONNECTIONS
    return max(1, min(CONNECTIONS, (hard_limit - SPARE_FILES) // 2))


class Held:
    """Idle connections to a contender. `lost` counts, when they were ended, those that it had not kept."""

    lost = 0


@contextlib.contextmanager
def holding(contender: Contender, count: int, core: int | None) -> Iterator[Held]:
    """So many connections that had one answer each, idle until the end of the block. BenchError when one had none."""
    argv = [sys.executable, "-m", "bench.idle_client", str(contender.port), str(count)]
    with pinned(core):
        client = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
    connections = Held()
    with client:
        assert client.stdout is not None
        try:
            held = client.stdout.readline()
            if held:
                yield connections
            output, errors = client.communicate(timeout=_END_TIMEOUT)
        finally:
            client.kill()
    if client.returncode != 0:
        name = contender.peer.name
        raise BenchError(f"{NAME}: {name} did not answer on {count} connections: {held}{errors.strip()}")
    connections.lost = int(output.removeprefix("lost "))


def _hold(contender: Contender, count: int, core: int | None) -> IdleMemory:
    before = contender.process.usage()
    with holding(contender, count, core) as connections:
        during = contender.process.usage()
    return IdleMemory(contender.peer.name, count, before.rss_bytes, during.rss_bytes, connections.lost)


def planned_seconds(peers: Sequence[Peer]) -> float:
    """How long it will take, about."""
    return SECONDS_EACH * sum(peer.takes_part_in(NAME) for peer in peers)


def measure(
    peers: Sequence[Peer], cores: Cores, progress: Callable[[str], None], began: Began = unseen
) -> list[IdleMemory]:
    """Measure each contender once, started anew and alone. BenchError when one does not hold the connections."""
    count = connections_that_fit(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    if count < CONNECTIONS:
        progress(
            f"{NAME}: {count} connections instead of {CONNECTIONS}, which the hard limit of open files permits "
            f"(ulimit -Hn; {2 * CONNECTIONS + SPARE_FILES} would do)"
        )
    results = []
    with open_files(2 * count + SPARE_FILES, NAME):
        for peer in peers:
            if peer.takes_part_in(NAME):
                with contextlib.ExitStack() as stack:
                    began(f"{NAME}, {count} connections", peer.name, SECONDS_EACH)
                    ready = peer
                    if peer.name == PODLB_KUBERNETES.name:
                        ready = stack.enter_context(beside_api_server(cores.load)).peer
                    (contender,) = stack.enter_context(running([ready], cores, connections=count))
                    results.append(_hold(contender, count, cores.load))
                progress(f"{NAME}: {peer.name} {results[-1].with_bytes / 2**20:.1f} MiB")
    return results


_COLUMNS = (
    Column[IdleMemory]("contender", 16, lambda result: result.peer),
    Column[IdleMemory]("connections", 11, lambda result: str(result.connections)),
    Column[IdleMemory]("before, MiB", 11, lambda result: f"{result.before_bytes / 2**20:.1f}"),
    Column[IdleMemory]("with, MiB", 9, lambda result: f"{result.with_bytes / 2**20:.1f}"),
    Column[IdleMemory]("at most", 8, _limit),
    Column[IdleMemory](
        "KiB each", 8, lambda result: f"{(result.with_bytes - result.before_bytes) / 1024 / result.connections:.2f}"
    ),
    Column[IdleMemory]("lost", 10, lambda result: f"{result.lost} !!!" if result.lost else "0"),
)


def failures(results: Iterable[IdleMemory]) -> list[str]:
    """A line for each contender that did not keep every connection, and for each that has more memory than it may."""
    results = list(results)
    return [
        f"!!! {NAME}: {result.peer} FAILED: it did not keep {result.lost} of {result.connections} connections"
        for result in results
        if result.lost
    ] + [
        f"!!! {NAME}: {result.peer} FAILED: "
        f"it has {result.with_bytes / 2**20:.1f} MiB and may have {LIMITS_MIB[result.peer]}"
        for result in results
        if result.is_too_large
    ]


def table(results: Sequence[IdleMemory]) -> str:
    """The table as plain text."""
    title = f"{NAME}: resident memory with idle client connections that made one request each; measured once"
    return "\n".join([*render(title, _COLUMNS, results), *([""] if failures(results) else []), *failures(results)])
