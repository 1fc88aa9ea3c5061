"""What there is to say of an exchange."""

from __future__ import annotations

import json
from typing import Any

from lb.access_log import json_line, text_line
from lb.attempts import Attempts, RetryRules
from lb.endpoint import make_endpoint
from lb.entries import Entries
from lb.errors import ConnectFailure, EndReason
from lb.exchange import Exchange
from lb.http1.forwarding import Request
from lb.http1.framing import NO_BODY, Framing
from lb.http1.message import RequestHead

A, B = make_endpoint("10.0.0.1", 80), make_endpoint("fd00::1", 80)
WALL = 1_795_512_600.5
REQUEST = Request(RequestHead(b"GET", b"/cart", 1, [], []), Framing(NO_BODY), b"")


def entry_of(exchange: Exchange) -> dict[str, Any]:
    return json.loads(json_line(Entries(lambda: WALL).of(exchange)))  # type: ignore[no-any-return]


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
    found = entry_of(it)
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
    found = entry_of(it)
    assert (found["client"], found["reason"], found["status"]) == ("unknown", "bad_response:status", None)
    assert (found["bytesReceived"], found["bytesSent"], found["attempts"]) == (0, 0, [])
    assert [found[key] for key in ("queue", "connect", "firstByte", "endpoint", "requestId")] == [None] * 5


def test_the_attempts_before() -> None:
    it = exchange()
    tries = Attempts(RetryRules(), 100.0)
    tries.connect_failed(A.key, ConnectFailure.TIMED_OUT, 100.5)
    tries.lost(B.key, REQUEST, reused=True, written=True, body=None, now=100.75)
    it.attempts = tries
    it.ended(EndReason.RESET_BEFORE_HEAD, 101.0)
    assert entry_of(it)["attempts"] == [
        {"endpoint": "10.0.0.1:80", "outcome": "timed out", "after": 0.5},
        {"endpoint": "[fd00::1]:80", "outcome": "connection lost", "after": 0.75},
    ]


def test_of_very_many_attempts_the_first() -> None:
    tries = Attempts(RetryRules(), 100.0)
    for _ in range(100):
        tries.connect_failed(A.key)
    assert (len(tries.story), tries.count) == (16, 100)


def test_a_head_that_was_refused() -> None:
    entry = Entries(lambda: WALL).refused(b"10.1.2.3", 400, "bad_request:host", b"id-1", 321)
    assert text_line(entry) == (
        b'2026-11-24T09:30:00.500Z 10.1.2.3 "- - HTTP/1.1" 400 bad_request:host in=0 out=321 queue=- connect=- first=- '
        b"total=0.000000 via=- tries=- id=id-1\n"
    )


def test_the_second_changes() -> None:
    now = [WALL]
    entries = Entries(lambda: now[0])
    found = []
    for at in (WALL, WALL + 0.25, WALL + 0.5, WALL + 60.0, WALL):
        now[0] = at
        found.append(entries.refused(b"", 400, "", b"", 0).at[17:])
    assert found == ["00.500Z", "00.750Z", "01.000Z", "00.500Z", "00.500Z"]
