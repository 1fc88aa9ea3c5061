"""The head we received → the head we send."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lb.endpoint import make_endpoint
from lb.http1 import forwarding
from lb.http1.forwarding import ForwardingRules, Request, prepare_request
from lb.http1.framing import CHUNKED, LENGTH, NO_BODY, Framing
from lb.http1.head import HeadLimits, HeadParser
from lb.http1.message import MessageError

ENDPOINT, CLIENT, ID = make_endpoint("10.0.0.1", 8080), b"192.0.2.7", b"id-1"


def read(raw: bytes) -> Request:
    return prepare_request(HeadParser(HeadLimits()).request(raw))


def sent(raw: bytes) -> list[bytes]:
    """Return the lines of the head that is sent for the received head `raw`."""
    head = read(raw).head_for(ENDPOINT, CLIENT, ID)
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n")


def get(*lines: bytes, start: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"\r\n".join([start, b"Host: h", *lines, b"", b""])


def values(lines: list[bytes], name: bytes) -> list[bytes]:
    return [value for key, _, value in (line.partition(b": ") for line in lines[1:]) if key.lower() == name.lower()]


def refused(raw: bytes) -> tuple[int, str]:
    with pytest.raises(MessageError) as caught:
        read(raw)
    return caught.value.status, caught.value.what


def test_a_plain_get_as_it_is_sent() -> None:
    assert sent(b"GET /a?b=c HTTP/1.1\r\nHost: www.example.com\r\nAccept: */*\r\n\r\n") == [
        b"GET /a?b=c HTTP/1.1",
        b"Host: www.example.com",
        b"Accept: */*",
        b"X-Forwarded-Host: www.example.com",
        b"X-Forwarded-Proto: http",
        b"Via: 1.1 podlb",
        b"X-Forwarded-For: 192.0.2.7",
        b"X-Request-Id: id-1",
    ]


USUAL = [b"Connection: keep-alive", b"connection: Keep-Alive", b"Accept: */*", b"Cookie: a=b", b"Host: h"]
UNUSUAL = [
    *(
        b"Connection: close",
        b"Connection: cookie",
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"TE: trailers",
    ),
    *(b"X-Forwarded-For: 1.2.3.4", b"X-Request-Id: of-the-client", b"Upgrade: websocket", b"Max-Forwards: 0"),
    *(b"Host: other", b"Expect: 100-continue", b"Forwarded: for=1.2.3.4", b"traceparent: 00-1-2-01"),
]
RULES = [
    ForwardingRules(),
    ForwardingRules(trusts_client=True),
    ForwardingRules(trace_key=b"secret"),
    ForwardingRules(upgrades=frozenset([b"websocket"])),
]


def prepared(raw: bytes, rules: ForwardingRules) -> dict[str, object]:
    """Return all that is known of a request, or what is wrong with it."""
    try:
        request = prepare_request(HeadParser(HeadLimits()).request(raw), rules)
    except MessageError as error:
        return {"refused": (error.status, error.what)}
    names = [name for kind in type(request).__mro__ for name in getattr(kind, "__slots__", ())]
    found: dict[str, object] = {name: getattr(request, name) for name in names}
    return {**found, "sent": request.head_for(ENDPOINT, CLIENT, ID)}


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"GET", b"POST", b"OPTIONS", b"CONNECT", b"TRACE"]),
            st.sampled_from([b"/", b"/a?b", b"/a#b", b"*", b"http://elsewhere/a", b"elsewhere:80"]),
            st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0"]),
            st.lists(st.one_of(st.sampled_from(USUAL), st.sampled_from(USUAL + UNUSUAL)), max_size=4),
            st.sampled_from(RULES),
        ),
        min_size=2,
        max_size=6,
    )
)
def test_what_is_remembered_of_host_and_connection_changes_nothing(
    requests: list[tuple[bytes, bytes, bytes, list[bytes], ForwardingRules]],
) -> None:
    raws = [
        (b"\r\n".join([b"%b %b HTTP/%b" % (method, target, version), b"Host: h", *lines, b"", b""]), rules)
        for method, target, version, lines, rules in requests
    ]
    fresh = []
    for raw, rules in raws:
        forwarding._usual.clear()
        fresh.append(prepared(raw, rules))
    forwarding._usual.clear()
    for _ in range(2):
        assert [prepared(raw, rules) for raw, rules in raws] == fresh


def test_usual_heads_are_remembered_and_no_others() -> None:
    forwarding._usual.clear()
    for raw in (
        get(b"Connection: close"),
        get(b"X-Request-Id: 1"),
        get(b"Content-Length: 5"),
        get(start=b"GET / HTTP/1.0"),
        get(start=b"GET http://elsewhere/ HTTP/1.1"),
        b"GET / HTTP/1.1\r\nHost: " + b"a." * 300 + b"\r\n\r\n",
    ):
        read(raw)
        assert not forwarding._usual
    read(get(b"Connection: keep-alive", b"Accept: */*"))
    assert len(forwarding._usual) == 1
    read(get(b"Connection: keep-alive", b"Accept: text/html"))
    assert len(forwarding._usual) == 1


def test_what_is_remembered_is_bounded() -> None:
    forwarding._usual.clear()
    for number in range(3 * forwarding._USUAL_COUNT):
        read(b"GET / HTTP/1.1\r\nHost: h%d\r\n\r\n" % number)
        assert len(forwarding._usual) <= forwarding._USUAL_COUNT


def test_other_fields_keep_their_order_and_spelling() -> None:
    lines = sent(get(b"B: 1", b"a: 2", b"B:3", b"Cookie: a=b", b"cookie:  c=d "))
    assert lines[2:7] == [b"B: 1", b"a: 2", b"B: 3", b"Cookie: a=b", b"cookie: c=d"]


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: close",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: keep-alive",
        b"TE: gzip",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        b"Forwarded: for=1.2.3.4",
        b"X-Real-IP: 1.2.3.4",
        b"X_Real_IP: 1.2.3.4",
        b"X_Forwarded_For: 1.2.3.4",
        b"X-Forwarded_For: 1.2.3.4",
        b"X-Forwarded-Port: 99",
        b"X-Forwarded-Prefix: /admin",
        b"x_request_id: forged",
    ],
)
def test_hop_by_hop_fields_and_what_a_client_claims_are_dropped(line: bytes) -> None:
    assert sent(get(b"A: b", line, b"C: d")) == sent(get(b"A: b", b"C: d"))


@pytest.mark.parametrize("name", [b"X-Forwarded-For", b"x-forwarded-proto", b"X-FORWARDED-HOST"])
def test_what_we_say_replaces_what_the_client_claims(name: bytes) -> None:
    assert values(sent(get(name + b": 1.2.3.4")), name) == values(sent(get()), name)


def test_what_connection_names_is_dropped() -> None:
    lines = sent(get(b"Connection: A, b ,Close", b"A: 1", b"B: 2", b"a: 3", b"C: 4", b"connection: C"))
    assert lines == sent(get())


def test_connection_cannot_take_away_what_the_endpoint_needs() -> None:
    named = b"Connection: host, content-length, transfer-encoding, x-forwarded-for, x-forwarded-host, via, x-request-id"
    post = get(named, b"Content-Length: 5", start=b"POST / HTTP/1.1")
    assert sent(post) == sent(get(b"Content-Length: 5", start=b"POST / HTTP/1.1"))
    assert values(sent(get(named, b"Transfer-Encoding: chunked")), b"transfer-encoding") == [b"chunked"]


def test_via_is_appended_to() -> None:
    assert values(sent(get(b"Via: 1.0 other")), b"via") == [b"1.0 other", b"1.1 podlb"]


def test_expect_is_passed_on() -> None:
    expecting = get(b"Expect: 100-continue", b"Content-Length: 5", start=b"POST / HTTP/1.1")
    assert values(sent(expecting), b"expect") == [b"100-continue"]
    assert values(sent(get(b"Expect: 100-continue", b"Connection: expect")), b"expect") == []


@pytest.mark.parametrize("line", [b"Content-Length: 5", b"content-length: 005"])
def test_a_length_is_written_anew(line: bytes) -> None:
    post = get(line, start=b"POST / HTTP/1.1")
    assert read(post).framing == Framing(LENGTH, 5)
    assert read(post).has_body
    assert not read(post).chunked
    assert sent(post)[2] == b"Content-Length: 5"
    assert values(sent(post), b"transfer-encoding") == []


def test_an_empty_body_is_still_a_body() -> None:
    assert values(sent(get(b"Content-Length: 0", start=b"POST / HTTP/1.1")), b"content-length") == [b"0"]


def test_chunks_are_announced_anew() -> None:
    post = get(b"transfer-encoding: CHUNKED", start=b"POST / HTTP/1.1")
    assert read(post).framing == Framing(CHUNKED)
    assert read(post).has_body
    assert read(post).chunked
    assert sent(post)[2] == b"Transfer-Encoding: chunked"
    assert values(sent(post), b"content-length") == []


def test_without_a_body_there_is_no_framing() -> None:
    assert read(get()).framing == Framing(NO_BODY)
    assert not read(get()).has_body
    assert values(sent(get()), b"content-length") + values(sent(get()), b"transfer-encoding") == []


@pytest.mark.parametrize("method", [b"CONNECT", b"TRACE"])
def test_methods_that_are_not_for_a_balancer(method: bytes) -> None:
    assert refused(get(start=method + b" / HTTP/1.1")) == (405, "method")


@pytest.mark.parametrize(
    ("method", "idempotent"),
    [
        (b"GET", True),
        (b"HEAD", True),
        (b"PUT", True),
        (b"DELETE", True),
        (b"OPTIONS", True),
        (b"POST", False),
        (b"PATCH", False),
        (b"get", False),
        (b"PROPFIND", False),
    ],
)
def test_which_methods_are_idempotent(method: bytes, idempotent: bool) -> None:
    request = read(get(start=method + b" / HTTP/1.1"))
    assert request.idempotent is idempotent
    assert request.method == method
    assert request.is_head is (method == b"HEAD")


@pytest.mark.parametrize(
    ("raw", "persistent"),
    [
        (get(), True),
        (get(b"Connection: keep-alive"), True),
        (get(b"Connection: close"), False),
        (get(b"Connection: Keep-Alive, CLOSE"), False),
        (get(b"Connection: upgrade", b"Connection: close"), False),
        (get(b"Connection: closed"), True),
        (get(start=b"GET / HTTP/1.0"), False),
        (get(b"Connection: keep-alive", start=b"GET / HTTP/1.0"), False),
        (get(b"Connection: a", start=b"GET / HTTP/1.0"), False),
    ],
)
def test_whether_another_request_may_follow(raw: bytes, persistent: bool) -> None:
    assert read(raw).persistent is persistent


@pytest.mark.parametrize("minor", [0, 1])
def test_the_version_of_the_client_is_known(minor: int) -> None:
    assert read(get(start=b"GET / HTTP/1.%d" % minor)).minor == minor


class TestTarget:
    @pytest.mark.parametrize(
        ("target", "host", "path"),
        [
            (b"http://b", b"b", b"/"),
            (b"http://b/", b"b", b"/"),
            (b"HTTP://b:81/c?d", b"b:81", b"/c?d"),
            (b"http://b?d", b"b", b"/?d"),
            (b"http://[::1]:80//c", b"[::1]:80", b"//c"),
            (b"http://b/c/http://d/", b"b", b"/c/http://d/"),
        ],
    )
    def test_the_authority_of_an_absolute_target_replaces_host(self, target: bytes, host: bytes, path: bytes) -> None:
        lines = sent(get(start=b"GET " + target + b" HTTP/1.1"))
        assert lines[:2] == [b"GET " + path + b" HTTP/1.1", b"Host: " + host]
        assert values(lines, b"host") == [host]
        assert values(lines, b"x-forwarded-host") == [host]
        assert read(get(start=b"GET " + target + b" HTTP/1.1")).target == target

    def test_http_1_0_with_an_absolute_target_needs_no_host(self) -> None:
        assert sent(b"GET http://b/c HTTP/1.0\r\n\r\n")[:2] == [b"GET /c HTTP/1.1", b"Host: b"]

    def test_options_for_the_whole_server(self) -> None:
        assert sent(get(start=b"OPTIONS * HTTP/1.1"))[0] == b"OPTIONS * HTTP/1.1"
        assert sent(get(start=b"OPTIONS http://b HTTP/1.1"))[:2] == [b"OPTIONS * HTTP/1.1", b"Host: b"]
        assert sent(get(start=b"OPTIONS http://b/ HTTP/1.1"))[0] == b"OPTIONS / HTTP/1.1"

    @pytest.mark.parametrize(
        "target",
        [
            b"*",
            b"a",
            b"b:80",
            b"https://b/",
            b"ftp://b/",
            b"http://",
            b"http:///a",
            b"http://?a",
            b"http://b/#c",
            b"//",
        ],
    )
    def test_other_forms_are_refused(self, target: bytes) -> None:
        if target == b"//":
            assert sent(get(start=b"GET // HTTP/1.1"))[0] == b"GET // HTTP/1.1"
        else:
            assert refused(get(start=b"GET " + target + b" HTTP/1.1")) == (400, "target")

    @pytest.mark.parametrize("target", [b"http://u@b/", b"http://u:p@b/", b"http://b:c/", b"http://b:99999/"])
    def test_an_absolute_target_needs_a_plain_authority(self, target: bytes) -> None:
        assert refused(get(start=b"GET " + target + b" HTTP/1.1")) == (400, "host")

    def test_an_absolute_target_does_not_make_up_for_a_missing_host(self) -> None:
        assert refused(b"GET http://b/ HTTP/1.1\r\n\r\n") == (400, "host")


class TestHost:
    @pytest.mark.parametrize(
        "host", [b"a", b"a:", b"a:80", b"a:65535", b"A-b.c_d~e", b"a%20b", b"1.2.3.4", b"[::1]", b"[1:2::3.4.5.6]:80"]
    )
    def test_a_host_is_passed_on_as_it_is(self, host: bytes) -> None:
        lines = sent(b"GET / HTTP/1.1\r\nhOST: " + host + b"\r\n\r\n")
        assert lines[1] == b"Host: " + host
        assert values(lines, b"x-forwarded-host") == [host]

    @pytest.mark.parametrize(
        "host",
        [
            b"",
            b":80",
            b"a b",
            b"a/b",
            b"a?b",
            b"a#b",
            b"a@b",
            b"a\\b",
            b"a:b",
            b"a:1:2",
            b"a:65536",
            b"a:100000",
            b"a:-1",
            b"a%2",
            b"a%zz",
            b"::1",
            b"[::1",
            b"[]",
            b"[::g]",
            b"[::1]a",
            b"\xe9",
            b"<a>",
            b'"a"',
        ],
    )
    def test_what_is_no_host_is_refused(self, host: bytes) -> None:
        assert refused(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n") == (400, "host")

    @pytest.mark.parametrize("recogniser", [True, False])
    @pytest.mark.parametrize("minor", [0, 1])
    def test_two_are_refused_equal_or_not(self, recogniser: bool, minor: int) -> None:
        parser = HeadParser(HeadLimits(), recogniser=recogniser)
        for second in (b"a", b"b"):
            with pytest.raises(MessageError) as caught:
                prepare_request(parser.request(b"GET / HTTP/1.%d\r\nHost: a\r\nHost: %b\r\n\r\n" % (minor, second)))
            assert (caught.value.status, caught.value.what) == (400, "host")

    @pytest.mark.parametrize("recogniser", [True, False])
    def test_http_1_1_needs_one(self, recogniser: bool) -> None:
        parser = HeadParser(HeadLimits(), recogniser=recogniser)
        with pytest.raises(MessageError) as caught:
            prepare_request(parser.request(b"GET / HTTP/1.1\r\nA: b\r\n\r\n"))
        assert (caught.value.status, caught.value.what) == (400, "host")

    def test_http_1_0_is_given_the_endpoints_address(self) -> None:
        lines = sent(b"GET /a HTTP/1.0\r\nB: c\r\n\r\n")
        assert lines[:3] == [b"GET /a HTTP/1.1", b"Host: 10.0.0.1:8080", b"B: c"]
        assert values(lines, b"host") == [b"10.0.0.1:8080"]
        assert values(lines, b"x-forwarded-host") == []
        assert values(lines, b"via") == [b"1.0 podlb"]


class TestRequestId:
    @pytest.mark.parametrize("value", [b"a", b"x" * 128, b'!"#$%&()~'])
    def test_a_clients_own_may_be_kept(self, value: bytes) -> None:
        assert read(get(b"X-Request-Id: " + value)).request_id == value

    @pytest.mark.parametrize("value", [b"", b"x" * 129, b"a b", b"\xe9", b"a\tb"])
    def test_but_not_if_it_is_long_or_not_visible(self, value: bytes) -> None:
        assert read(get(b"X-Request-Id: " + value)).request_id is None

    def test_nor_if_there_are_two_or_none(self) -> None:
        assert read(get(b"X-Request-Id: a", b"x-request-id: a")).request_id is None
        assert read(get()).request_id is None
        assert read(get(b"x_request_id: a")).request_id is None

    def test_only_the_one_that_is_given_is_sent(self) -> None:
        assert values(sent(get(b"X-Request-Id: theirs")), b"x-request-id") == [ID]


def prepare_traced(*lines: bytes, key: bytes = b"k" * 32) -> Request:
    raw = b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *lines, b"", b""])
    return prepare_request(HeadParser(HeadLimits()).request(raw), ForwardingRules(trace_key=key))


def traceparents(request: Request, request_id: bytes) -> list[bytes]:
    head = request.head_for(make_endpoint("10.0.0.1", 80), b"192.0.2.1", request_id)
    assert head.endswith(b"\r\n\r\n")
    assert head.count(b"\r\n\r\n") == 1
    return [line for line in head.split(b"\r\n") if line.lower().startswith(b"traceparent:")]


def test_a_trace_begins_where_none_has_begun() -> None:
    request = prepare_traced(b"Cookie: traceparent: x")
    [line] = traceparents(request, b"id-1")
    assert re.fullmatch(rb"traceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-01", line)
    # The same for every attempt, another for every request and in every process.
    assert traceparents(request, b"id-1") == [line]
    assert traceparents(request, b"id-2") != [line]
    assert traceparents(prepare_traced(key=b"l" * 32), b"id-1") != [line]
    head = request.head_for(make_endpoint("10.0.0.1", 80), b"192.0.2.1", b"id-1")
    assert b"\r\nX-Request-Id: id-1\r\n" in head


@pytest.mark.parametrize("name", [b"traceparent", b"Traceparent", b"TRACEPARENT"])
def test_a_trace_that_has_begun_goes_on(name: bytes) -> None:
    line = name + b": 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    assert traceparents(prepare_traced(line), b"id-1") == [line]


def test_what_connection_names_is_no_trace() -> None:
    line = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    [made] = traceparents(prepare_traced(line, b"Connection: traceparent"), b"id-1")
    assert made != line


def test_without_a_key_no_trace_begins() -> None:
    assert traceparents(prepare_traced(key=b""), b"id-1") == []
