"""Heads that come again and again are read once."""

from __future__ import annotations

from array import array

import pytest

from lb.http1 import target
from lb.http1.forwarding import PLAIN_RULES
from lb.http1.framing import LENGTH, Framing
from lb.http1.head import HeadLimits, HeadParser
from lb.http1.message import MessageError
from lb.http1.readers import RequestReader, ResponseReader

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 5\r\n\r\n"


def get(*lines: bytes) -> bytes:
    return b"\r\n".join([b"GET / HTTP/1.1", b"Host: h", *lines, b"", b""])


def ok(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([start, *lines, b"", b""])


def requests(*, recogniser: bool = True) -> RequestReader:
    return RequestReader(HeadParser(HeadLimits(), recogniser=recogniser))


def responses(*, recogniser: bool = True) -> ResponseReader:
    return ResponseReader(HeadParser(HeadLimits(), recogniser=recogniser))


class TestRequests:
    def test_from_the_third_time_on_a_request_is_remembered(self) -> None:
        reader = requests()
        assert reader.get(GET) is None
        reader.read(GET)
        assert reader.get(GET) is None
        second = reader.read(GET)
        assert reader.get(GET) is second
        assert reader.read(GET) is second

    def test_another_head_is_another_request(self) -> None:
        reader = requests()
        for _ in range(3):
            assert reader.read(GET).target == b"/"
            assert reader.read(GET.replace(b"/ ", b"/b ")).target == b"/b"
            assert reader.read(get(b"Connection: close")).persistent is False

    @pytest.mark.parametrize("line", [b"Content-Length: 0", b"Content-Length: 5", b"Transfer-Encoding: chunked"])
    def test_requests_with_a_body_are_remembered_apart(self, line: bytes) -> None:
        # Their head is no whole request, and `get` is asked with all that was received.
        reader = requests()
        reader.read(get(line))
        second = reader.read(get(line))
        for _ in range(3):
            assert reader.read(get(line)) is second
            assert reader.get(get(line)) is None

    def test_what_had_to_be_read_is_counted(self) -> None:
        counters = array("q", bytes(8 * 3))
        reader = RequestReader(HeadParser(HeadLimits()), PLAIN_RULES, counters, 1)
        for _ in range(5):
            reader.read(GET)
            reader.read(get(b"Content-Length: 5"))
        # Each the first time, and the second, from which on it is remembered.
        assert list(counters) == [0, 4, 0]

    def test_a_bad_head_is_bad_every_time(self) -> None:
        reader = requests()
        for _ in range(5):
            with pytest.raises(MessageError):
                reader.read(get(b"Host: b"))
            assert reader.get(get(b"Host: b")) is None

    def test_if_h11_is_to_read_every_head_none_is_remembered(self) -> None:
        reader = requests(recogniser=False)
        for _ in range(5):
            reader.read(GET)
            assert reader.get(GET) is None

    def test_long_heads_are_not_remembered(self) -> None:
        reader = requests()
        just, over = (get(b"A: ".ljust(size - len(GET) - 2, b"a")) for size in (512, 513))
        assert (len(just), len(over)) == (512, 513)
        for _ in range(3):
            reader.read(just)
            reader.read(over)
        assert reader.get(just) is not None
        assert reader.get(over) is None

    def test_only_so_many_are_remembered(self) -> None:
        reader = requests()
        heads = [get(b"A: %d" % number) for number in range(2000)]
        most = 0
        for raw in heads:
            for _ in range(3):
                reader.read(raw)
            most = max(most, len(reader._cache._kept))
        assert most == 512
        assert reader.get(heads[-1]) is not None

    def test_the_limits_are_those_of_the_parser(self) -> None:
        limits = HeadLimits(fields=1)
        reader = RequestReader(HeadParser(limits))
        assert reader.limits is limits
        with pytest.raises(MessageError):
            reader.read(get(b"A: b"))


class TestResponses:
    def test_from_the_third_time_on_a_response_is_remembered(self) -> None:
        reader = responses()
        reader.read(OK)
        second = reader.read(OK)
        assert reader.read(OK) is second
        assert second.framing == Framing(LENGTH, 5)

    def test_what_had_to_be_read_is_counted(self) -> None:
        counters = array("q", bytes(8 * 3))
        reader = ResponseReader(HeadParser(HeadLimits()), PLAIN_RULES, counters, 2)
        for _ in range(5):
            reader.read(OK)
        assert list(counters) == [0, 0, 2]

    def test_another_head_is_another_response(self) -> None:
        reader = responses()
        for _ in range(3):
            assert reader.read(OK).framing.length == 5
            assert reader.read(OK.replace(b"5", b"6")).framing.length == 6
            assert reader.read(OK.replace(b"200", b"201")).status == 201

    def test_if_h11_is_to_read_every_head_none_is_remembered(self) -> None:
        reader = responses(recogniser=False)
        assert len({id(response) for response in [reader.read(OK) for _ in range(5)]}) == 5

    def test_long_heads_are_not_remembered(self) -> None:
        reader = responses()
        just, over = (ok(b"A: ".ljust(size - len(ok()) - 2, b"a")) for size in (512, 513))
        assert (len(just), len(over)) == (512, 513)
        for raw, remembered in ((just, True), (over, False)):
            _, second, third = [reader.read(raw) for _ in range(3)]
            assert (third is second) is remembered

    def test_only_so_many_are_remembered(self) -> None:
        reader = responses()
        most = 0
        for number in range(2000):
            for _ in range(3):
                reader.read(ok(b"A: %d" % number))
            most = max(most, len(reader._cache._kept))
        assert most == 512

    @pytest.mark.parametrize(
        ("raw", "what"),
        [
            (ok(b"A: b\x00"), "control_character"),
            (ok(b"A : b"), "field_name"),
            (ok(b"A: b\nC: d"), "bare_line_end"),
            (ok(b"Content-Length: 5", b"Content-Length: 6"), "content_length"),
            (ok(*[b"A: b"] * 101), "too_many_fields"),
            (ok(start=b"HTTP/1.1 600 OK"), "status"),
            (ok(b"Transfer-Encoding: chunked", start=b"HTTP/1.0 200 OK"), "transfer_encoding"),
        ],
    )
    def test_a_bad_response_is_told_as_502_every_time(self, raw: bytes, what: str) -> None:
        reader = responses()
        for _ in range(3):
            with pytest.raises(MessageError) as caught:
                reader.read(raw)
            assert (caught.value.status, caught.value.what) == (502, what)
            assert caught.value.detail


def test_the_limits_of_responses_are_those_of_the_parser() -> None:
    limits = HeadLimits(fields=1)
    assert ResponseReader(HeadParser(limits)).limits is limits


class TestHosts:
    def test_the_hosts_that_are_remembered_are_bounded(self) -> None:
        reader = requests()
        for number in range(2000):
            reader.read(b"GET / HTTP/1.1\r\nHost: h%d\r\n\r\n" % number)
            assert len(target._host_lines_seen) <= 512

    def test_a_bad_host_is_bad_every_time(self) -> None:
        reader = requests()
        for _ in range(3):
            with pytest.raises(MessageError) as caught:
                reader.read(b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n")
            assert (caught.value.status, caught.value.what) == (400, "host")


def test_hosts_that_are_remembered_are_bounded_in_bytes() -> None:
    target._host_lines_seen.clear()
    reader = RequestReader(HeadParser(HeadLimits()))
    for number in range(64):
        reader.read(b"GET / HTTP/1.1\r\nHost: %d%b\r\n\r\n" % (number, b"a" * 30000))
    reader.read(b"GET / HTTP/1.1\r\nHost: short\r\n\r\n")
    assert list(target._host_lines_seen) == [b"short"]


def test_a_fragment_is_not_part_of_a_target() -> None:
    with pytest.raises(MessageError, match="fragment"):
        RequestReader(HeadParser(HeadLimits())).read(b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n")


class TestTheLatest:
    def test_a_head_that_is_remembered_is_found_in_front_of_a_body(self) -> None:
        reader = responses()
        assert reader.look_up(OK + b"hello") is None
        reader.read(OK)
        kept = reader.read(OK)
        assert reader.latest is None
        assert reader.look_up(OK + b"hello") == (OK, kept)
        assert reader.latest == (OK, kept)

    def test_another_takes_its_place(self) -> None:
        reader = responses()
        other = OK.replace(b"Date: d", b"Date: e")
        for head in (OK, OK, other, other):
            reader.read(head)
        for head in (OK, other, OK):
            found = reader.look_up(head + b"hello")
            assert found is not None
            assert found[0] == head
            assert reader.latest == found

    @pytest.mark.parametrize("data", [b"", b"HTTP", OK[:-1], b"x" + OK])
    def test_what_is_no_head_leaves_it(self, data: bytes) -> None:
        reader = responses()
        reader.read(OK)
        reader.read(OK)
        latest = reader.look_up(OK)
        assert reader.look_up(data) is None
        assert reader.latest == latest

    def test_without_a_recogniser_nothing_is_found(self) -> None:
        reader = responses(recogniser=False)
        for _ in range(3):
            reader.read(OK)
            assert reader.look_up(OK) is None
        assert reader.latest is None
