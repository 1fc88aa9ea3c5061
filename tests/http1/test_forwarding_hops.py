"""What is between two hops: Expect, Max-Forwards, TE, Upgrade, and whose X-Forwarded fields are believed."""

from __future__ import annotations

import pytest

from lb.endpoint import make_endpoint
from lb.http1.forwarding import ForwardingRules, Request
from lb.http1.head import HeadLimits, HeadParser
from lb.http1.message import MessageError
from lb.http1.readers import RequestReader

RULES = ForwardingRules(frozenset([b"websocket"]))
BELIEVING = RULES._replace(trusts_client=True)


@pytest.fixture(params=[True, False], ids=["recogniser", "h11"])
def parser(request: pytest.FixtureRequest) -> HeadParser:
    return HeadParser(HeadLimits(), recogniser=request.param)


def read(
    parser: HeadParser, *lines: bytes, start: bytes = b"GET / HTTP/1.1", rules: ForwardingRules = RULES
) -> Request:
    return RequestReader(parser, rules).read(b"\r\n".join([start, b"Host: h", *lines, b"", b""]))


def sent(request: Request) -> list[bytes]:
    head = request.head_for(make_endpoint("10.0.0.1", 8080), b"192.0.2.7", b"id-1")
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n")


def values(request: Request, name: bytes) -> list[bytes]:
    return [value for key, _, value in (line.partition(b": ") for line in sent(request)[1:]) if key.lower() == name]


def refused(parser: HeadParser, *lines: bytes, start: bytes = b"GET / HTTP/1.1") -> tuple[int, str]:
    with pytest.raises(MessageError) as caught:
        read(parser, *lines, start=start)
    return caught.value.status, caught.value.what


class TestExpect:
    @pytest.mark.parametrize("value", [b"100-continue", b"100-Continue"])
    def test_100_continue_is_passed_on_where_it_stood(self, parser: HeadParser, value: bytes) -> None:
        lines = sent(
            read(parser, b"A: 1", b"Expect: " + value, b"B: 2", b"Content-Length: 3", start=b"POST / HTTP/1.1")
        )
        assert lines[2:5] == [b"A: 1", b"Expect: " + value, b"B: 2"]

    @pytest.mark.parametrize("value", [b"200-ok", b"100-continue, x", b"100-continue;a=b"])
    def test_nothing_else_can_be_expected(self, parser: HeadParser, value: bytes) -> None:
        assert refused(parser, b"Expect: " + value) == (417, "expect")

    def test_http_1_0_expects_nothing(self, parser: HeadParser) -> None:
        assert values(read(parser, b"Expect: 100-continue", start=b"GET / HTTP/1.0"), b"expect") == []


class TestMaxForwards:
    OPTIONS = b"OPTIONS / HTTP/1.1"

    @pytest.mark.parametrize(("value", "less"), [(b"1", b"0"), (b"10", b"9"), (b"007", b"6")])
    def test_options_goes_one_hop_less(self, parser: HeadParser, value: bytes, less: bytes) -> None:
        request = read(parser, b"max-forwards: " + value, start=self.OPTIONS)
        assert sent(request)[2] == b"max-forwards: " + less
        assert not request.rare.is_for_us
        assert request.is_simple

    def test_at_none_it_is_for_us(self, parser: HeadParser) -> None:
        request = read(parser, b"Max-Forwards: 0", start=self.OPTIONS)
        assert request.rare.is_for_us
        assert not request.is_simple

    def test_it_is_said_once(self, parser: HeadParser) -> None:
        lines = (b"Max-Forwards: 1", b"Max-Forwards: 1")
        assert refused(parser, *lines, start=self.OPTIONS) == (400, "max_forwards")

    @pytest.mark.parametrize("value", [b"-1", b"x", b"", b"1, 2", b"12345678901"])
    def test_it_is_a_number(self, parser: HeadParser, value: bytes) -> None:
        assert refused(parser, b"Max-Forwards: " + value, start=self.OPTIONS) == (400, "max_forwards")

    @pytest.mark.parametrize("value", [b"0", b"x"])
    def test_for_other_methods_it_is_passed_on_unread(self, parser: HeadParser, value: bytes) -> None:
        request = read(parser, b"Max-Forwards: " + value)
        assert values(request, b"max-forwards") == [value]
        assert not request.rare.is_for_us


class TestTe:
    @pytest.mark.parametrize("value", [b"trailers", b"deflate, Trailers", b"trailers,gzip;q=0.5"])
    def test_only_trailers_survives_and_is_named(self, parser: HeadParser, value: bytes) -> None:
        request = read(parser, b"TE: " + value, b"Connection: TE")
        assert (values(request, b"te"), values(request, b"connection")) == ([b"trailers"], [b"TE"])

    def test_twice_is_once(self, parser: HeadParser) -> None:
        assert values(read(parser, b"TE: trailers", b"TE: trailers"), b"te") == [b"trailers"]

    @pytest.mark.parametrize("value", [b"gzip", b"trailers;q=1", b"xtrailers", b""])
    def test_others_go(self, parser: HeadParser, value: bytes) -> None:
        request = read(parser, b"TE: " + value, b"Connection: TE")
        assert (values(request, b"te"), values(request, b"connection")) == ([], [])

    def test_not_from_http_1_0(self, parser: HeadParser) -> None:
        assert values(read(parser, b"TE: trailers", start=b"GET / HTTP/1.0"), b"te") == []


class TestUpgrade:
    ASKS = (b"Connection: keep-alive, Upgrade", b"Upgrade: websocket")

    @pytest.mark.parametrize(
        ("value", "goes"),
        [
            (b"websocket", b"websocket"),
            (b"WebSocket/13", b"WebSocket/13"),
            (b"h2c, websocket, x", b"websocket"),
        ],
    )
    def test_what_is_allowed_is_passed_on_alone(self, parser: HeadParser, value: bytes, goes: bytes) -> None:
        request = read(parser, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + value, b"HTTP2-Settings: a")
        assert values(request, b"upgrade") == [goes]
        assert values(request, b"connection") == [b"Upgrade"]
        assert values(request, b"http2-settings") == []
        assert request.rare.upgrades == {b"websocket"}

    @pytest.mark.parametrize(
        ("lines", "start"),
        [
            ((b"Connection: Upgrade", b"Upgrade: h2c"), b"GET / HTTP/1.1"),
            ((b"Upgrade: websocket",), b"GET / HTTP/1.1"),
            (ASKS, b"GET / HTTP/1.0"),
        ],
        ids=["not allowed", "not named in Connection", "HTTP/1.0"],
    )
    def test_else_it_is_ignored(self, parser: HeadParser, lines: tuple[bytes, ...], start: bytes) -> None:
        request = read(parser, *lines, start=start)
        assert (values(request, b"upgrade"), values(request, b"connection")) == ([], [])
        assert request.rare.upgrades == frozenset()

    def test_nothing_is_allowed_by_default(self, parser: HeadParser) -> None:
        assert read(parser, *self.ASKS, rules=ForwardingRules()).rare.upgrades == frozenset()

    def test_beside_te(self, parser: HeadParser) -> None:
        request = read(parser, *self.ASKS, b"TE: trailers")
        assert values(request, b"connection") == [b"TE, Upgrade"]


class TestTrustedProxies:
    def test_the_chain_is_continued(self, parser: HeadParser) -> None:
        lines = (b"X-Forwarded-For: 1.1.1.1", b"A: b", b"x-forwarded-for: 2.2.2.2, 3.3.3.3")
        request = read(parser, *lines, rules=BELIEVING)
        assert values(request, b"x-forwarded-for") == [b"1.1.1.1, 2.2.2.2, 3.3.3.3, 192.0.2.7"]

    def test_scheme_and_host_are_believed(self, parser: HeadParser) -> None:
        lines = (b"X-Forwarded-Proto: https", b"X-Forwarded-Host: a.example:8443", b"X-Forwarded-Port: 8443")
        request = read(parser, *lines, rules=BELIEVING)
        assert values(request, b"x-forwarded-proto") == [b"https"]
        assert values(request, b"x-forwarded-host") == [b"a.example:8443"]
        assert values(request, b"x-forwarded-port") == [b"8443"]
        assert values(request, b"x-forwarded-for") == [b"192.0.2.7"]
        assert values(request, b"host") == [b"h"]

    @pytest.mark.parametrize("values_", [(b"https", b"http"), (b"",), (b"a b",)])
    def test_what_makes_no_sense_is_ours(self, parser: HeadParser, values_: tuple[bytes, ...]) -> None:
        request = read(parser, *[b"X-Forwarded-Proto: " + value for value in values_], rules=BELIEVING)
        assert values(request, b"x-forwarded-proto") == [b"http"]

    @pytest.mark.parametrize("line", [b"Forwarded: for=1.2.3.4", b"X-Real-IP: 1.2.3.4", b"X_Forwarded_For: 1.2.3.4"])
    def test_other_claims_go_all_the_same(self, parser: HeadParser, line: bytes) -> None:
        assert sent(read(parser, line, rules=BELIEVING)) == sent(read(parser, rules=BELIEVING))

    def test_connection_cannot_take_it_away(self, parser: HeadParser) -> None:
        lines = (b"Connection: X-Forwarded-For, X-Forwarded-Port", b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-Port: 1")
        request = read(parser, *lines, rules=BELIEVING)
        assert values(request, b"x-forwarded-for") == [b"1.1.1.1, 192.0.2.7"]
        assert values(request, b"x-forwarded-port") == []

    def test_nobody_else_is_believed(self, parser: HeadParser) -> None:
        request = read(parser, b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-Port: 1")
        assert values(request, b"x-forwarded-for") == [b"192.0.2.7"]
        assert values(request, b"x-forwarded-port") == []
