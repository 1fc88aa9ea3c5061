"""The bytes of a client connection that no exchange has taken yet."""

from __future__ import annotations

import pytest

from lb.http1.forwarding import Request
from lb.http1.head import HeadLimits, HeadParser, find_head_end
from lb.http1.inbox import Inbox, body_too_large
from lb.http1.message import MessageError
from lb.http1.readers import RequestReader

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"


def new_inbox(limits: HeadLimits | None = None) -> Inbox:
    return Inbox(RequestReader(HeadParser(limits or HeadLimits())))


def taken(inbox: Inbox, body_limit: int = 0) -> Request:
    request = inbox.next_request(body_limit)
    assert request is not None
    return request


def test_an_empty_inbox_has_no_request() -> None:
    assert new_inbox().next_request(0) is None


def test_a_head_is_taken_and_what_follows_stays() -> None:
    inbox = new_inbox()
    inbox.data = GET + b"GET /b"
    assert taken(inbox).target == b"/a"
    assert inbox.data == b"GET /b"
    assert inbox.next_request(0) is None
    inbox.data += b" HTTP/1.1\r\nHost: h\r\n\r\n"
    assert taken(inbox).target == b"/b"
    assert inbox.data == b""


def test_pipelined_requests_are_taken_in_order() -> None:
    inbox = new_inbox()
    inbox.data = b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(5))
    assert [taken(inbox).target for _ in range(5)] == [b"/0", b"/1", b"/2", b"/3", b"/4"]
    assert inbox.next_request(0) is None


def test_a_head_byte_by_byte() -> None:
    inbox = new_inbox()
    for at in range(len(GET) - 1):
        inbox.data += GET[at : at + 1]
        assert inbox.next_request(0) is None
    inbox.data += GET[-1:]
    assert taken(inbox).target == b"/a"


def test_what_was_searched_for_the_end_of_a_head_is_not_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []

    def find(data: bytes, scanned: int, limits: HeadLimits) -> int:
        searched.append(scanned)
        return find_head_end(data, scanned, limits)

    monkeypatch.setattr("lb.http1.inbox.find_head_end", find)
    inbox = new_inbox()
    for piece in (GET[:5], GET[5:12], GET[12:], GET):
        inbox.data += piece
        inbox.next_request(0)
    assert searched == [0, 5, 12, 0]


def test_a_short_head_behind_a_long_one_is_found() -> None:
    inbox = new_inbox()
    long = b"GET /long HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 500
    inbox.data = long
    assert inbox.next_request(0) is None
    inbox.data += b"\r\n\r\n" + GET
    assert taken(inbox).target == b"/long"
    assert taken(inbox).target == b"/a"


def test_the_body_is_taken_as_it_came() -> None:
    inbox = new_inbox()
    inbox.data = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nfive\r\n\r\n"
    assert taken(inbox).framing.length == 9
    assert inbox.take_all() == b"five\r\n\r\n"
    assert inbox.data == b""
    assert inbox.take_all() == b""


@pytest.mark.parametrize("empty", [b"", b"\r\n", b"\r\n\r\n"])
def test_up_to_two_empty_lines_before_a_request_are_ignored(empty: bytes) -> None:
    inbox = new_inbox()
    inbox.data = empty + GET
    assert taken(inbox).target == b"/a"


def test_a_third_empty_line_is_refused() -> None:
    inbox = new_inbox()
    inbox.data = b"\r\n\r\n\r\n" + GET
    with pytest.raises(MessageError) as caught:
        inbox.next_request(0)
    assert (caught.value.status, caught.value.what) == (400, "empty_lines")


def test_empty_lines_that_come_one_by_one_are_counted() -> None:
    inbox = new_inbox()
    for _ in range(2):
        inbox.data += b"\r\n"
        assert inbox.next_request(0) is None
    inbox.data += b"\r\n"
    with pytest.raises(MessageError) as caught:
        inbox.next_request(0)
    assert caught.value.what == "empty_lines"


def test_empty_lines_are_counted_anew_for_each_request() -> None:
    inbox = new_inbox()
    inbox.data = (b"\r\n\r\n" + GET) * 3
    for _ in range(3):
        assert taken(inbox).target == b"/a"


def test_an_empty_line_in_two_pieces() -> None:
    inbox = new_inbox()
    inbox.data = b"\r"
    assert inbox.next_request(0) is None
    inbox.data += b"\n" + GET
    assert taken(inbox).target == b"/a"


def test_a_bare_lf_before_a_request_is_refused_at_once() -> None:
    inbox = new_inbox()
    inbox.data = b"\n"
    with pytest.raises(MessageError) as caught:
        inbox.next_request(0)
    assert caught.value.what == "bare_line_end"


def test_the_limits_are_those_of_the_reader() -> None:
    inbox = new_inbox(HeadLimits(head_bytes=40))
    inbox.data = GET + b"GET / HTTP/1.1\r\nHost: h\r\nX: ".ljust(41, b"x")
    assert taken(inbox).target == b"/a"
    with pytest.raises(MessageError) as caught:
        inbox.next_request(0)
    assert caught.value.status == 431


def test_a_body_of_just_the_limit_is_accepted() -> None:
    inbox = new_inbox()
    post = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n"
    inbox.data = post
    assert taken(inbox, 100).framing.length == 100
    inbox.data = post
    with pytest.raises(MessageError) as caught:
        inbox.next_request(99)
    assert (caught.value.status, caught.value.what) == (413, "body_too_large")
    assert "99 bytes" in caught.value.detail


def test_without_a_limit_any_length_is_accepted() -> None:
    inbox = new_inbox()
    inbox.data = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999999999999\r\n\r\n"
    assert taken(inbox, 0).framing.length == 999999999999999999


def test_the_error_for_a_body_names_the_limit() -> None:
    error = body_too_large(1000)
    assert (error.status, error.what, error.detail) == (413, "body_too_large", "the request's body is over 1000 bytes")


@pytest.mark.parametrize("data", [b"G", b"GE", b"GET", b"GET ", b"\r\n\r", b"\r\n\r\n", GET[:-1], b"\r\n" + GET])
def test_what_does_not_begin_with_a_whole_head_takes_the_long_way(data: bytes) -> None:
    inbox = new_inbox()
    assert inbox.first_request(data, 0) is None
    assert inbox.data == b""


@pytest.mark.parametrize("behind", [b"", b"x", GET, b"\r\n" + GET])
def test_a_whole_head_needs_no_detour(behind: bytes) -> None:
    inbox = new_inbox()
    request = inbox.first_request(GET + behind, 0)
    assert request is not None
    assert request.target == b"/a"
    assert inbox.take_all() == behind


def test_the_first_request_of_all_is_held_to_the_limits_too() -> None:
    post = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n"
    assert new_inbox().first_request(post + b"123", 9) is not None
    with pytest.raises(MessageError, match="over 8 bytes"):
        new_inbox().first_request(post + b"123", 8)
