"""The parts of the hot path one by one: head, framing, forwarding, response head, pick, timers, metrics.

`python -m bench.micro.parts` (pyperf's options apply, `--fast` for a first look). `PARTS` names each with its budget in
microseconds of CPU time, for the small GET unless it says otherwise; `None` where there is none. `--check` compares the
means with the budgets, and a thousand endpoints with three (bench/micro/endpoints.py), and fails when one is over.

No part calls the system: its CPU time is user time, which neither waits nor the processes beside it are in.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from bench.micro import budgets, endpoints
from bench.micro.fixtures import RESPONSE, SMALL, balanced, browser_heads
from lb.balancer.round_robin import RoundRobin
from lb.deadline import NEVER, Deadlines
from lb.endpoint import make_endpoint
from lb.errors import EndReason
from lb.exchange import Exchange
from lb.http1 import forwarding
from lb.http1.forwarding import prepare_request
from lb.http1.framing import ChunkedBody, LengthBody, encode_chunk, request_framing
from lb.http1.head import HeadLimits, HeadParser
from lb.http1.message import RequestHead
from lb.http1.readers import RequestReader, ResponseReader
from lb.http1.responses import prepare_response
from lb.metrics import ENDED_OK, EXCHANGES, PICKS, RESPONSES, Metrics
from lb.stopwatch import Stopwatch

_BROWSER = browser_heads(1)[0]
_RESPONSE_HEAD = RESPONSE[: RESPONSE.index(b"\r\n\r\n") + 4]
_PIECE = bytes(65536)


class Part(NamedTuple):
    """One part: what to run, and what it may cost."""

    name: str
    run: Callable[[], object]
    budget: float | None = None


def forward_anew(head: RequestHead) -> None:
    """Prepare a request as the first one with its Host and Connection."""
    forwarding._usual.clear()
    prepare_request(head)


def _make_parts() -> list[Part]:
    limits = HeadLimits()
    fast, h11 = HeadParser(limits), HeadParser(limits, recogniser=False)
    small_head, browser_head = fast.request(SMALL), fast.request(_BROWSER)
    requests, responses = RequestReader(fast), ResponseReader(fast)
    for _ in range(2):
        request = requests.read(SMALL)
        responses.read(_RESPONSE_HEAD)
    endpoint = make_endpoint("127.0.0.1", 9001)
    service = balanced(3)

    def pick_and_pool() -> None:
        picked = service.pick(request, 0.5)
        assert picked is not None
        connection = service.pool.checkout(picked.key, 0.5)
        assert connection is not None
        service.pool.checkin(picked.key, connection, 0.5)

    response_head = fast.response(_RESPONSE_HEAD)
    few = RoundRobin(tuple(make_endpoint("127.0.0.1", port) for port in range(9001, 9004)))
    many = RoundRobin(tuple(make_endpoint("127.0.0.1", port) for port in range(9001, 10001)))
    nobody: frozenset[tuple[str, str, int]] = frozenset()
    metrics = Metrics()
    values, slot = metrics.values, metrics.slot(endpoint.key)
    chunk = encode_chunk(_PIECE)
    body, chunked = LengthBody(1 << 60), ChunkedBody(status=502)
    deadlines = Deadlines()

    class Timed:
        deadline = NEVER
        filed = NEVER

        def deadline_passed(self, now: float) -> None:
            raise AssertionError("nothing expires here")

    timed, passing = Timed(), Timed()
    timed.deadline = 1000.0
    deadlines.file(timed)

    def set_move_and_remove_timer() -> None:
        passing.deadline = 1010.0
        if passing.deadline < passing.filed:
            deadlines.file(passing)
        # Later: it stays where it is filed until that tick has passed.
        passing.deadline = 1075.0
        if passing.deadline < passing.filed:
            deadlines.file(passing)
        # Sooner: it is filed anew.
        passing.deadline = 1004.0
        if passing.deadline < passing.filed:
            deadlines.file(passing)
        deadlines.remove(passing)

    def exchange() -> None:
        one = Exchange(request, 1.0, complete=True)
        one.response_began(200, 2.0)
        one.response_ended()
        one.ended(EndReason.OK, 3.0)

    def count() -> None:
        values[EXCHANGES] += 1
        values[slot + PICKS] += 1
        values[slot + RESPONSES + 1] += 1
        values[ENDED_OK] += 1

    stopwatch = Stopwatch(metrics, time.monotonic)
    turns = itertools.cycle([False] * 15 + [True])

    came = time.monotonic()

    def record() -> None:
        # Times since `came`, as those since the start of the system would add up to more than a counter holds.
        answered.own_until = came - answered.own_since - came
        answered.sent = 200
        stopwatch.answered(answered)
        if next(turns):
            stopwatch.flushed()

    answered = Exchange(request, came, complete=True)
    answered.slot = slot

    def set_deadline() -> None:
        timed.deadline = 1001.0
        if timed.deadline < timed.filed:
            deadlines.file(timed)

    return [
        Part("head, seen before: cache", lambda: requests.get(SMALL), 0.2),
        Part("head, browser: recogniser", lambda: fast.request(_BROWSER), 5.0),
        Part("head, small: recogniser", lambda: fast.request(SMALL), 2.0),
        Part("head, small: h11", lambda: h11.request(SMALL)),
        Part("head, browser: h11", lambda: h11.request(_BROWSER)),
        Part("framing of a request", lambda: request_framing(small_head), 0.3),
        Part("forwarding, small", lambda: prepare_request(small_head), 2.5),
        Part("forwarding, small, of which nothing is remembered", lambda: forward_anew(small_head), 3.5),
        Part("forwarding, browser", lambda: prepare_request(browser_head), 4.0),
        Part(
            "forwarding fields of a prepared request", lambda: request.head_for(endpoint, b"127.0.0.1", b"0" * 24), 1.0
        ),
        Part("response head, seen before", lambda: responses.read(_RESPONSE_HEAD), 0.2),
        Part("response head: recogniser", lambda: fast.response(_RESPONSE_HEAD), 5.0),
        Part("response head: h11", lambda: h11.response(_RESPONSE_HEAD)),
        Part("response head, what is forwarded for it", lambda: prepare_response(response_head), 4.0),
        Part("body piece of 64 KiB, counted", lambda: body.feed(_PIECE), 0.3),
        Part("body piece of 64 KiB, one chunk", lambda: chunked.feed(chunk)),
        Part("pick, 3 endpoints", lambda: few.pick(None, nobody, 0.0), 0.3),
        Part("pick, 1000 endpoints", lambda: many.pick(None, nobody, 0.0), 0.3),
        Part("pick, checkout and checkin, 3 endpoints", pick_and_pool, 1.0),
        Part("exchange, its stamps and its end", exchange, 1.5),
        Part("counters of one exchange", count, 1.0),
        Part("times and bytes of one exchange, one of 16 in a turn", record, 1.2),
        Part("a deadline set", set_deadline, 0.2),
        Part("a timer set, moved later and sooner, and removed", set_move_and_remove_timer, 2.0),
    ]


PARTS = _make_parts()


def _cpu_seconds(loops: int, run: Callable[[], object]) -> float:
    calls = itertools.repeat(None, loops)
    began = time.process_time()
    for _ in calls:
        run()
    return time.process_time() - began


def main() -> int:
    """Measure, and check if asked to; return the exit status."""
    import pyperf

    runner = pyperf.Runner(program_args=("-m", "bench.micro.parts"))
    runner.argparser.add_argument("--check", action="store_true", help="fail when a part is over its budget")
    arguments = runner.parse_args()
    measured = []
    for part in PARTS:
        name = part.name if part.budget is None else f"{part.name} (budget {part.budget:g} us)"
        found = runner.bench_time_func(name, _cpu_seconds, part.run)
        # (A worker may only calibrate, and has no values then.)
        if found is not None and not arguments.worker:
            measured.append(budgets.Measured(part.name, found.mean() * 1e6, part.budget))
    if not arguments.check or arguments.worker:
        return 0
    print(f"\n{budgets.table(measured)}\n")
    return int(any([budgets.over(measured), endpoints.main([])]))


if __name__ == "__main__":
    sys.exit(main())
