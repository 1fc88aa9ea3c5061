"""Ten thousand clients that drip a head keep nobody out, at default limits."""

from __future__ import annotations

import re
import statistics
import time

import pytest

from tests.fakes import eventually, request
from tests.integration.processes import Backend, LoadBalancer, PythonProcess

DRIPPING = 10_000
GETS = 300
# Whoever connects while all connections are taken waits for one look at all of them.
FLOOR = 0.050


def p99_of_new_connections(lb: LoadBalancer) -> float:
    """Return the 99th percentile, in seconds, of GETs on connections of their own, one after the other."""
    taken = []
    for _ in range(GETS):
        begin = time.perf_counter()
        client = lb.client()
        assert client.exchange(request("GET", "/", "Connection: close")).status == 200
        taken.append(time.perf_counter() - begin)
        client.close()
    return sorted(taken)[GETS * 99 // 100]


def gauge(lb: LoadBalancer, name: str) -> float:
    match = re.search(rf"^{name} ([0-9.e+]+)$", lb.probe("/metrics")[1], re.MULTILINE)
    assert match is not None
    return float(match[1])


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_ten_thousand_clients_that_drip_a_head() -> None:
    with Backend() as backend, LoadBalancer("--backends", f"127.0.0.1:{backend.port}") as lb:
        calm = statistics.median(p99_of_new_connections(lb) for _ in range(3))
        with PythonProcess("tests.integration.drip", str(lb.port), str(DRIPPING)) as drip:
            eventually(lambda: drip.find("ready"), "all of them", seconds=60)
            eventually(lambda: gauge(lb, "podlb_evictions_total") > 0, "the first that makes room", seconds=60)
            dripped = statistics.median(p99_of_new_connections(lb) for _ in range(3))
            assert drip.process.poll() is None, drip.errors
            assert gauge(lb, "podlb_connections_open") > 0.98 * DRIPPING
            assert gauge(lb, "podlb_accept_pauses_total") == 0
        print(f"\np99 of new connections: calm {calm * 1000:.1f} ms, beside {DRIPPING} {dripped * 1000:.1f} ms")
        assert dripped <= max(3 * calm, FLOOR)
