"""What a thousand endpoints cost a request beside three: `python -m bench.micro.endpoints`.

For each request an endpoint is picked, an idle connection to it taken out of the pool, and put back. None of that may
grow with the number of endpoints. Both are measured in one process, in turn: it is the ratio of their CPU time that is
told, pair by pair. None of it calls the system, so that this is user time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

from bench.micro.fixtures import SMALL, IdleConnection, balanced
from bench.stats import Interval, bootstrap
from lb.http1.forwarding import Request
from lb.http1.head import HeadLimits, HeadParser
from lb.http1.readers import RequestReader
from lb.service import Service

FEW, MANY = 3, 1000
ALLOWED = 1.05
"""How many times the cost with few endpoints that with many may be."""
TIMES = 5000
"""Requests of one measurement: some milliseconds, so that both sides of a pair see the machine in the same mood."""

Passer = Callable[[int], float]


def passer(service: Service[IdleConnection], request: Request) -> Passer:
    """Return what makes so many picks, checkouts and checkins, and returns the CPU seconds that they took."""
    pick, checkout, checkin = service.pick, service.pool.checkout, service.pool.checkin

    def run(times: int) -> float:
        clock, now = time.process_time, 0.5
        began = clock()
        for _ in range(times):
            endpoint = pick(request, now)
            assert endpoint is not None
            key = endpoint.key
            connection = checkout(key, now)
            assert connection is not None
            checkin(key, connection, now)
        return clock() - began

    return run


def ratio(few: Passer, many: Passer, *, pairs: int, times: int = TIMES) -> Interval:
    """Return the cost of `many` over that of `few`, pair by pair; the first one in a pair is the other each time."""
    found = []
    for turn in range(pairs):
        first, second = (many, few) if turn % 2 else (few, many)
        costs = {first: first(times), second: second(times)}
        found.append(costs[many] / costs[few])
    return bootstrap(found)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the ratio, and return the exit status: 1 when it is more than is allowed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.micro.endpoints", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--pairs", type=int, default=401)
    arguments = parser.parse_args(argv)
    request = RequestReader(HeadParser(HeadLimits())).read(SMALL)
    few, many = (passer(balanced(count), request) for count in (FEW, MANY))
    found = ratio(few, many, pairs=arguments.pairs)
    verdict = "OVER !!!" if found.median > ALLOWED else "passed"
    print(
        f"pick, checkout and checkin, {MANY} endpoints / {FEW}: {found.median:.3f} ({found.low:.3f}..{found.high:.3f}) "
        f"of the CPU time, {arguments.pairs} pairs of {TIMES}; allowed {ALLOWED}: {verdict}"
    )
    return int(found.median > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
