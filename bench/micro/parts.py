"""The parts of the hot path one by one: head, framing, forwarding, pick, metrics.

`python -m bench.micro.parts` (pyperf's options apply, `--fast` for a first look). `PARTS` names each with its budget in
microseconds of user time, for the small GET unless it says otherwise; `None` where there is none.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

from bench.micro.fixtures import RESPONSE, SMALL, browser_heads
from lb.balancer.round_robin import RoundRobin
from lb.deadline import NEVER, Deadlines
from lb.endpoint import make_endpoint
from lb.errors import EndReason
from lb.exchange import Exchange
from lb.http1.forwarding import prepare_request
from lb.http1.framing import ChunkedBody, LengthBody, encode_chunk, request_framing
from lb.http1.head import HeadLimits, HeadParser
from lb.http1.readers import RequestReader, ResponseReader
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


def _make_parts() -> list[Part]:
    limits = HeadLimits()
    fast, h11 = HeadParser(limits), HeadParser(limits, recogniser=False)
    small_head, browser_head = fast.request(SMALL), fast.request(_BROWSER)
    requests, responses = RequestReader(fast), ResponseReader(fast)
    for _ in range(2):
        request = requests.read(SMALL)
        responses.read(_RESPONSE_HEAD)
    endpoint = make_endpoint("127.0.0.1", 9001)
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

    timed = Timed()
    timed.deadline = 1000.0
    deadlines.file(timed)

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

    def record() -> None:
        answered.own_until = 2.0 - answered.own_since - 3.0
        answered.sent = 200
        stopwatch.answered(answered)
        if next(turns):
            stopwatch.flushed()

    answered = Exchange(request, 1.0, complete=True)
    answered.slot = slot

    def set_deadline() -> None:
        timed.deadline = 1001.0
        if timed.deadline < timed.filed:
            deadlines.file(timed)

    return [
        Part("head, seen before: cache", lambda: requests.get(SMALL), 0.2),
        Part("head, browser: recogniser", lambda: fast.request(_BROWSER), 5.0),
        Part("head, small: recogniser", lambda: fast.request(SMALL)),
        Part("head, small: h11", lambda: h11.request(SMALL)),
        Part("head, browser: h11", lambda: h11.request(_BROWSER)),
        Part("framing of a request", lambda: request_framing(small_head)),
        Part("forwarding, small", lambda: prepare_request(small_head)),
        Part("forwarding, browser", lambda: prepare_request(browser_head)),
        Part(
            "forwarding fields of a prepared request", lambda: request.head_for(endpoint, b"127.0.0.1", b"0" * 24), 1.0
        ),
        Part("response head, seen before", lambda: responses.read(_RESPONSE_HEAD)),
        Part("body piece of 64 KiB, counted", lambda: body.feed(_PIECE)),
        Part("body piece of 64 KiB, one chunk", lambda: chunked.feed(chunk)),
        Part("pick, 3 endpoints", lambda: few.pick(None, nobody, 0.0)),
        Part("pick, 1000 endpoints", lambda: many.pick(None, nobody, 0.0)),
        Part("exchange, its stamps and its end", exchange),
        Part("counters of one exchange", count, 1.0),
        Part("times and bytes of one exchange, one of 16 in a turn", record, 1.2),
        Part("a deadline set", set_deadline, 0.2),
    ]


PARTS = _make_parts()


def main() -> None:
    import pyperf

    runner = pyperf.Runner(program_args=("-m", "bench.micro.parts"))
    for part in PARTS:
        name = part.name if part.budget is None else f"{part.name} (budget {part.budget:g} us)"
        runner.bench_func(name, part.run)


if __name__ == "__main__":
    main()
