"""The lines of the access log: what is in them, and what can't be made of them."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.access_log import Attempt, Entry, json_line, text_line

USUAL = Entry(
    at="2026-11-24T09:30:00.123Z",
    client=b"10.1.2.3",
    method=b"GET",
    target=b"/cart?a=1",
    minor=1,
    status=200,
    reason="ok",
    received=0,
    sent=5120,
    queue=0.000012,
    connect=None,
    first_byte=0.0201,
    total=0.0204,
    endpoint="10.0.0.7:8080",
    attempts=(Attempt("10.0.0.6:8080", "refused", 0.001), Attempt("[fd00::1]:8080", "timed out", 1.002)),
    request_id=b"939f46d65435abc200000001",
)
NOTHING = USUAL._replace(
    status=0, reason="client_gone", queue=None, first_byte=None, endpoint="", attempts=(), request_id=b"", sent=0
)


def test_a_line_of_text() -> None:
    assert text_line(USUAL) == (
        b'2026-11-24T09:30:00.123Z 10.1.2.3 "GET /cart?a=1 HTTP/1.1" 200 ok in=0 out=5120 queue=0.000012 connect=- '
        b"first=0.020100 total=0.020400 via=10.0.0.7:8080 tries=10.0.0.6:8080/refused,[fd00::1]:8080/timed_out "
        b"id=939f46d65435abc200000001\n"
    )


def test_what_did_not_happen_is_a_dash() -> None:
    assert text_line(NOTHING) == (
        b'2026-11-24T09:30:00.123Z 10.1.2.3 "GET /cart?a=1 HTTP/1.1" - client_gone in=0 out=0 queue=- connect=- '
        b"first=- total=0.020400 via=- tries=- id=-\n"
    )


def test_a_line_of_json() -> None:
    line = json_line(USUAL)
    assert line.endswith(b"\n")
    assert json.loads(line) == {
        "time": "2026-11-24T09:30:00.123Z",
        "client": "10.1.2.3",
        "method": "GET",
        "target": "/cart?a=1",
        "version": "HTTP/1.1",
        "status": 200,
        "reason": "ok",
        "bytesReceived": 0,
        "bytesSent": 5120,
        "queue": 0.000012,
        "connect": None,
        "firstByte": 0.0201,
        "total": 0.0204,
        "endpoint": "10.0.0.7:8080",
        "attempts": [
            {"endpoint": "10.0.0.6:8080", "outcome": "refused", "after": 0.001},
            {"endpoint": "[fd00::1]:8080", "outcome": "timed out", "after": 1.002},
        ],
        "requestId": "939f46d65435abc200000001",
    }


def test_nothing_is_null_in_json() -> None:
    found = json.loads(json_line(NOTHING))
    assert [found[key] for key in ("status", "queue", "firstByte", "endpoint", "requestId")] == [None] * 5


@pytest.mark.parametrize("evil", [b'/" 200 ok\n', b"/\x1b[2J", b"/\r\nx", b"/ HTTP/1.1", b"/\\", b"/\xff\x00"])
def test_a_target_forges_nothing(evil: bytes) -> None:
    line = text_line(USUAL._replace(target=evil))
    assert len(line.splitlines()) == 1
    assert re.fullmatch(rb"[ -~]+\n", line)
    assert line.count(b'"') == 2
    assert len(line.split(b" ")) == len(text_line(USUAL).split(b" "))
    assert json.loads(json_line(USUAL._replace(target=evil)))["target"] == evil.decode("latin-1")


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=40))
def test_nothing_that_a_peer_sent_ends_a_line_or_a_field(target: bytes, request_id: bytes, method: bytes) -> None:
    entry = USUAL._replace(target=target or b"/", request_id=request_id or b"x", method=method or b"GET")
    line = text_line(entry)
    assert re.fullmatch(rb"[ -~]+\n", line)
    assert line.count(b'"') == 2
    assert len(line.split(b" ")) == len(text_line(USUAL).split(b" "))
    # And it can be read back.
    quoted = line.split(b'"')[1].split(b" ")[1]
    back = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), quoted)
    assert back == entry.target
    found = json.loads(json_line(entry))
    assert found["target"].encode("latin-1") == entry.target
    assert json_line(entry).count(b"\n") == 1
