"""Which exchanges are written to the access log, and what is asked of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

from lb.access_logger import AccessLogger
from lb.attempts import Attempts, RetryRules
from lb.endpoint import make_endpoint
from lb.errors import ConnectFailure, EndReason
from lb.exchange import Exchange
from lb.http1.forwarding import Request
from lb.http1.framing import NO_BODY, Framing
from lb.http1.message import RequestHead

A, B = make_endpoint("10.0.0.1", 80), make_endpoint("fd00::1", 80)
WALL = 1_795_512_600.5
REQUEST = Request(RequestHead(b"GET", b"/cart", 1, [], []), Framing(NO_BODY), b"")


class Written:
    def __init__(
        self, form: Literal["text", "json"] = "json", sample: float = 1.0, random: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.lines: list[bytes] = []
        self.logger = AccessLogger(form, sample, self.lines.append, random=random, wall_clock=lambda: WALL)

    def entry(self, exchange: Exchange) -> dict[str, Any]:
        self.logger.exchange_ended(exchange)
        return json.loads(self.lines.pop())  # type: ignore[no-any-return]


def exchange() -> Exchange:
    made = Exchange(REQUEST, 100.0, True)
    made.client = b"10.1.2.3"
    made.request_id = b"id-1"
    return made


def test_one_that_was_answered() -> None:
    it = exchange()
    it.endpoint = A
    it.upstream_ready, it.connect_seconds = 100.25, 0.125
    it.sent, it.received = 300, 7
    it.answered(200, 100.5)
    it.first_byte = 100.375
    found = Written().entry(it)
    assert found == {
        "time": "2026-11-24T09:30:00.000Z",
        "client": "10.1.2.3",
        "method": "GET",
        "target": "/cart",
        "version": "HTTP/1.1",
        "status": 200,
        "reason": "ok",
        "bytesReceived": 7,
        "bytesSent": 300,
        "queue": 0.25,
        "connect": 0.125,
        "firstByte": 0.125,
        "total": 0.5,
        "endpoint": "10.0.0.1:80",
        "attempts": [],
        "requestId": "id-1",
    }


def test_one_of_which_little_is_known() -> None:
    it = Exchange(REQUEST, 100.0, True)
    it.ended(EndReason.BAD_RESPONSE, 101.0, "status")
    found = Written().entry(it)
    assert (found["client"], found["reason"], found["status"]) == ("unknown", "bad_response:status", None)
    assert (found["bytesReceived"], found["bytesSent"], found["attempts"]) == (0, 0, [])
    assert [found[key] for key in ("queue", "connect", "firstByte", "endpoint", "requestId")] == [None] * 5


def test_the_attempts_before() -> None:
    it = exchange()
    tries = Attempts(RetryRules(), 100.0)
    tries.connect_failed(A.key, ConnectFailure.TIMED_OUT)
    tries.lost(B.key, REQUEST, reused=True, written=True, body=None)
    it.attempts = tries
    it.ended(EndReason.RESET_BEFORE_HEAD, 101.0)
    assert Written().entry(it)["attempts"] == [
        {"endpoint": "10.0.0.1:80", "outcome": "timed out"},
        {"endpoint": "[fd00::1]:80", "outcome": "connection lost"},
    ]


def test_of_very_many_attempts_the_first() -> None:
    tries = Attempts(RetryRules(), 100.0)
    for _ in range(100):
        tries.connect_failed(A.key)
    assert (len(tries.story), tries.count) == (16, 100)


def test_a_share_is_drawn() -> None:
    draws = iter([0.0, 0.24, 0.25, 0.9])
    it = exchange()
    it.ended(EndReason.OK, 101.0)
    written = Written(sample=0.25, random=lambda: next(draws))
    for _ in range(4):
        written.logger.exchange_ended(it)
    assert len(written.lines) == 2
    draws = iter([0.9, 0.1])
    for _ in range(2):
        written.logger.head_refused(b"10.1.2.3", 400, "bad_request:host", b"id")
    assert len(written.lines) == 3


def test_a_head_that_was_refused() -> None:
    written = Written("text")
    written.logger.head_refused(b"10.1.2.3", 400, "bad_request:host", b"id-1")
    (line,) = written.lines
    assert line == (
        b'2026-11-24T09:30:00.500Z 10.1.2.3 "- - HTTP/1.1" 400 bad_request:host in=0 out=0 queue=- connect=- first=- '
        b"total=0.000000 via=- tries=- id=id-1\n"
    )
