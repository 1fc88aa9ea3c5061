"""Our own responses, as bytes."""

from __future__ import annotations

import http.client
import io
import json

import pytest

from lb.http1.replies import REASONS, Problem, problem_reply, reply

DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
PROBLEM = Problem(503, "no endpoint could be reached", "destination_unavailable", "no_endpoint", 1)


class _Socket(io.BytesIO):
    def makefile(self, mode: str) -> io.BytesIO:
        return self


def parse(data: bytes, method: str = "GET") -> http.client.HTTPResponse:
    """Read a response as an ordinary client does."""
    response = http.client.HTTPResponse(_Socket(data), method=method)  # type: ignore[arg-type]
    response.begin()
    return response


def test_a_reply_byte_by_byte() -> None:
    assert reply(200, b"text/plain", b"hello\n", date=DATE, close=False) == (
        b"HTTP/1.1 200 OK\r\n"
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"Content-Type: text/plain\r\n"
        b"Content-Length: 6\r\n"
        b"Cache-Control: no-store\r\n"
        b"\r\n"
        b"hello\n"
    )


def test_a_reply_with_further_fields_that_closes() -> None:
    data = reply(405, b"text/plain", b"no\n", date=DATE, close=True, fields=[b"Allow: GET", b"A: b"])
    assert data == (
        b"HTTP/1.1 405 Method Not Allowed\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain\r\n"
        b"Content-Length: 3\r\nCache-Control: no-store\r\nAllow: GET\r\nA: b\r\nConnection: close\r\n\r\nno\n"
    )


def test_a_reply_to_head_has_the_length_and_no_body() -> None:
    data = reply(200, b"text/plain", b"hello", date=DATE, close=False, body=False)
    assert data.endswith(b"\r\n\r\n")
    assert b"Content-Length: 5\r\n" in data


def test_a_problem_is_told_to_people_and_programs() -> None:
    response = parse(problem_reply(PROBLEM, request_id=b"abc-1", date=DATE, close=False))
    assert (response.status, response.reason) == (503, "Service Unavailable")
    assert response.getheader("Content-Type") == "application/problem+json"
    assert response.getheader("Proxy-Status") == 'podlb; error=destination_unavailable; details="no_endpoint"'
    assert response.getheader("X-Request-Id") == "abc-1"
    assert response.getheader("Retry-After") == "1"
    assert response.getheader("Date") == DATE.decode()
    assert response.getheader("Connection") is None
    assert response.getheader("Allow") is None
    assert json.loads(response.read()) == {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "no endpoint could be reached",
        "reason": "no_endpoint",
        "requestId": "abc-1",
        "explain": "podlb why abc-1",
    }


def test_retry_after_only_where_it_makes_sense() -> None:
    response = parse(problem_reply(PROBLEM._replace(retry_after=None), request_id=b"a", date=DATE, close=False))
    assert response.getheader("Retry-After") is None
    response = parse(problem_reply(PROBLEM._replace(retry_after=0), request_id=b"a", date=DATE, close=False))
    assert response.getheader("Retry-After") == "0"


def test_without_a_request_id_there_is_no_such_field() -> None:
    response = parse(problem_reply(PROBLEM, request_id=b"", date=DATE, close=False))
    assert response.getheader("X-Request-Id") is None
    assert json.loads(response.read())["requestId"] == ""


def test_405_names_the_methods_that_are_allowed() -> None:
    response = parse(problem_reply(PROBLEM._replace(status=405), request_id=b"a", date=DATE, close=True))
    allowed = (response.getheader("Allow") or "").split(", ")
    assert {"GET", "HEAD", "POST", "PUT", "DELETE"} <= set(allowed)
    assert not {"TRACE", "CONNECT"} & set(allowed)
    assert response.getheader("Connection") == "close"


def test_a_problem_for_head_has_no_body_but_its_length() -> None:
    whole = problem_reply(PROBLEM, request_id=b"a", date=DATE, close=False)
    head = problem_reply(PROBLEM, request_id=b"a", date=DATE, close=False, body=False)
    assert whole.startswith(head)
    assert head.endswith(b"\r\n\r\n")
    assert parse(head, "HEAD").getheader("Content-Length") == str(len(whole) - len(head))


@pytest.mark.parametrize("request_id", [b'"', b"\\", b'a"b\\c', b'\\"', b"<script>", b"%s{}"])
def test_a_request_id_cannot_break_out_of_the_json(request_id: bytes) -> None:
    response = parse(problem_reply(PROBLEM, request_id=request_id, date=DATE, close=False))
    assert json.loads(response.read())["requestId"] == request_id.decode()


@pytest.mark.parametrize("detail", ['say "no"', "back\\slash", "déjà vu", "100 %"])
def test_a_detail_cannot_break_out_of_the_json(detail: str) -> None:
    response = parse(problem_reply(PROBLEM._replace(detail=detail), request_id=b"a", date=DATE, close=False))
    assert json.loads(response.read())["detail"] == detail


@pytest.mark.parametrize("status", sorted(REASONS))
def test_each_reason_phrase_is_the_registered_one(status: int) -> None:
    registered = {**http.client.responses, 413: "Content Too Large", 414: "URI Too Long"}
    assert REASONS[status] == registered[status]


@pytest.mark.parametrize("status", [400, 405, 408, 413, 414, 431, 501, 502, 503, 504, 505])
def test_every_status_that_a_request_can_be_refused_with_has_a_reason(status: int) -> None:
    assert (
        parse(problem_reply(PROBLEM._replace(status=status), request_id=b"a", date=DATE, close=True)).status == status
    )
