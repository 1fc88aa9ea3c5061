"""The fast path before h11: what it takes, what it hands on, and what it remembers."""

from __future__ import annotations

import pytest

from lb.http1.head import HeadLimits, HeadParser
from lb.http1.message import MessageError, is_special_in_requests
from lb.http1.recogniser import FieldLines, Recogniser

BROWSER = (
    b"GET /index.html?a=b&c=%20 HTTP/1.1\r\nHost: www.example.com:8080\r\nUser-Agent: Mozilla/5.0 (X11) Gecko\r\n"
    b"Accept: text/html,*/*;q=0.8\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n"
    b"Cookie: a=b; c=d\r\n\r\n"
)


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 123456789012345678\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"ABCDEFGHIJKLMNOP / HTTP/1.1\r\nHost: a\r\n\r\n",
        BROWSER,
    ],
)
def test_everyday_requests_never_reach_h11(raw: bytes) -> None:
    head = Recogniser().request(raw)
    assert head is not None
    assert head == HeadParser(HeadLimits(), recogniser=False).request(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 404 Not Found\r\nServer: a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    ],
)
def test_everyday_responses_never_reach_h11(raw: bytes) -> None:
    head = Recogniser().response(raw)
    assert head is not None
    assert head == HeadParser(HeadLimits(), recogniser=False).response(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"ABCDEFGHIJKLMNOPQ / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:  a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a \r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nB: c\td\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nB: \xe9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nB: \r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
    ],
)
def test_an_unusual_request_is_for_h11_to_read(raw: bytes) -> None:
    assert Recogniser().request(raw) is None
    assert HeadParser(HeadLimits()).request(raw) == HeadParser(HeadLimits(), recogniser=False).request(raw)


@pytest.mark.parametrize(
    "line",
    [
        b"A: b\nC: d",
        b"A: b\rC: d",
        b"A: b\x00c",
        b"A: b\x7f",
        b"A: b\r\n c",
        b"A : b",
        b"A",
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: 1234567890123456789",
        b"Content-Length: 5a",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: gzip",
    ],
)
def test_a_bad_head_is_not_recognised(line: bytes) -> None:
    recogniser = Recogniser()
    assert recogniser.request(b"POST / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n") is None
    assert recogniser.response(b"HTTP/1.1 200 OK\r\nServer: a\r\n" + line + b"\r\n\r\n") is None


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 \r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 200 O\tK\r\n\r\n",
        b"HTTP/1.1 200 OK \r\n\r\n",
        b"HTTP/1.1 200 \xe9\r\n\r\n",
        b"HTTP/1.1 600 OK\r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
    ],
)
def test_an_unusual_status_line_is_for_h11_to_read(raw: bytes) -> None:
    assert Recogniser().response(raw) is None


@pytest.mark.parametrize("recogniser", [True, False])
def test_a_head_of_just_the_most_fields_is_read(recogniser: bool) -> None:
    parser = HeadParser(HeadLimits(fields=3), recogniser=recogniser)
    three = b"Host: a\r\nB: c\r\nD: e\r\n"
    assert len(parser.request(b"GET / HTTP/1.1\r\n" + three + b"\r\n").lines) == 3
    assert len(parser.response(b"HTTP/1.1 200 OK\r\n" + three + b"\r\n").lines) == 3
    for read, line in ((parser.request, b"GET / HTTP/1.1\r\n"), (parser.response, b"HTTP/1.1 200 OK\r\n")):
        with pytest.raises(MessageError) as caught:
            read(line + three + b"F: g\r\n\r\n")
        assert (caught.value.status, caught.value.what) == (431, "too_many_fields")
        assert "3 fields" in caught.value.detail


@pytest.mark.parametrize("recogniser", [True, False])
def test_a_target_of_just_the_limit_is_read(recogniser: bool) -> None:
    parser = HeadParser(HeadLimits(target_bytes=5), recogniser=recogniser)
    assert parser.request(b"GET /1234 HTTP/1.1\r\nHost: a\r\n\r\n").target == b"/1234"
    with pytest.raises(MessageError) as caught:
        parser.request(b"GET /12345 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (caught.value.status, caught.value.what) == (414, "target_too_long")
    assert "5 bytes" in caught.value.detail


class TestMemory:
    """Lines that were seen before are only looked up."""

    def fields(self) -> FieldLines:
        return FieldLines(is_special_in_requests)

    def test_the_second_time_a_special_line_is_not_parsed(self) -> None:
        fields = self.fields()
        [first] = fields.recognise([b"Host: a"]) or []
        [second] = fields.recognise([b"Host: a"]) or []
        assert second is first == (b"host", b"a", b"Host: a")

    def test_the_second_time_is_like_the_first(self) -> None:
        fields = self.fields()
        lines = [b"A: b", b"Host: c", b"a: b", b"Connection: d", b"A: b", b"Host: c"]
        expected = [
            (b"host", b"c", b"Host: c"),
            (b"connection", b"d", b"Connection: d"),
            (b"host", b"c", b"Host: c"),
        ]
        for _ in range(3):
            assert fields.recognise(lines) == expected

    def test_a_bad_line_is_bad_every_time(self) -> None:
        fields = self.fields()
        for _ in range(3):
            assert fields.recognise([b"Host: a", b"A : b"]) is None
            assert fields.recognise([b"A: b\x00"]) is None

    def test_what_was_seen_in_requests_says_nothing_of_responses(self) -> None:
        recogniser = Recogniser()
        for _ in range(2):
            asked = recogniser.request(b"GET / HTTP/1.1\r\nHost: a\r\nDate: b\r\n\r\n")
            answered = recogniser.response(b"HTTP/1.1 200 OK\r\nHost: a\r\nDate: b\r\n\r\n")
            assert asked is not None
            assert answered is not None
            assert [field.key for field in asked.special] == [b"host"]
            assert [field.key for field in answered.special] == [b"date"]

    @pytest.mark.parametrize("name", [b"X", b"Host"], ids=["passed on", "looked at"])
    def test_what_is_remembered_is_bounded(self, name: bytes) -> None:
        fields = self.fields()
        most = 0
        for number in range(5000):
            assert fields.recognise([b"%b: %d" % (name, number)]) is not None
            most = max(most, len(fields._plain), len(fields._special))
        assert most == 2048

    def test_names_are_bounded_too(self) -> None:
        fields = self.fields()
        for number in range(2000):
            assert fields.recognise([b"Cookie%d: x" % number]) == []
        assert len(fields._names) <= 512
        fields.recognise([b"n" * 257 + b": x"])
        assert b"n" * 257 not in fields._names

    def test_long_lines_are_not_remembered(self) -> None:
        fields = self.fields()
        for name in (b"X", b"Host"):
            short, long = (b"%b: " % name).ljust(256, b"a"), (b"%b: " % name).ljust(257, b"a")
            fields.recognise([short, long])
            assert short in {*fields._plain, *fields._special}
            assert long not in {*fields._plain, *fields._special}

    @pytest.mark.parametrize(
        "name", b"Cookie Authorization Proxy-Authorization Set-Cookie X-Request-Id Content-Length cookie".split()
    )
    def test_secrets_and_what_always_differs_are_not_remembered(self, name: bytes) -> None:
        fields = self.fields()
        for _ in range(2):
            fields.recognise([name + b": 5"])
        assert not fields._plain
        assert not fields._special


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nA: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_what_is_to_be_refused_is_for_h11_and_the_rules_behind_it(raw: bytes) -> None:
    assert Recogniser().request(raw) is None


def test_a_101_is_for_h11() -> None:
    assert Recogniser().response(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n") is None
