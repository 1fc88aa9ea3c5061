"""What bench/growth.py measures with: backends at many addresses and of many sizes, one contender under one load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.backend import BULK_BODY, SMALL_BODY, Behind
from bench.load import Scenario, run_wrk, short_bodies
from bench.measure import Contender
from bench.peers import Setting
from bench.peers.nginx import Content, backend_argv
from bench.proc import BenchError, Cores


def _plain(setting: Setting) -> list[str]:
    return backend_argv(setting, Content(SMALL_BODY, {}))


def many_endpoints(count: int) -> Behind:
    """One nginx at that many addresses."""
    return Behind(_plain, endpoints=count)


def bodies(sizes: Sequence[int]) -> Behind:
    """An nginx that answers `/N` with N bytes."""
    files = {f"/{size}": (BULK_BODY * -(-size // len(BULK_BODY)))[:size] for size in sizes}
    return Behind(lambda setting: backend_argv(setting, Content(SMALL_BODY, files)))


class Measured(NamedTuple):
    """What one load came to."""

    requests: int
    seconds: float
    cpu_seconds: float
    rss_bytes: int
    failed: int

    @property
    def cpu_us(self) -> float:
        """CPU microseconds per request."""
        return self.cpu_seconds / self.requests * 1e6


def measure(contender: Contender, scenario: Scenario, seconds: int, cores: Cores) -> Measured:
    """Load the contender for whole seconds. BenchError when it answers nothing."""
    start = contender.process.usage()
    result = run_wrk(scenario, contender.port, seconds, cores.load)
    end = contender.process.usage()
    if not result.requests:
        raise BenchError(f"{scenario.name}: {contender.peer.name} answered not one request of {scenario.path}")
    failed = result.non_2xx + result.socket_errors + short_bodies(scenario, result)
    return Measured(result.requests, result.seconds, end.cpu_seconds - start.cpu_seconds, end.rss_bytes, failed)
