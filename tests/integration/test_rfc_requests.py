"""What RFC 9110 and RFC 9112 demand of a request's way through an intermediary, where no other file shows it."""

from __future__ import annotations

import pytest

from lb.endpoint import make_endpoint
from tests.fakes import Message, chunked, pieces, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import respond, response


def forwarded(balancer: MakeBalancer, endpoint: MakeEndpoint, raw: bytes) -> Message:
    """Return the request that an endpoint gets for `raw`."""
    a = endpoint()
    assert balancer(a).client().exchange(raw, "GET").status == 200
    (message,) = a.requests
    return message


# RFC 9110, section 5: fields


@pytest.mark.parametrize("around", ["", " ", "\t", " \t \t "], ids=repr)
def test_white_space_around_a_value_is_no_part_of_it(
    around: str, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """Section 5.5: excluded before a value is evaluated, which Content-Length shows, and sent on with one space."""
    raw = b"POST / HTTP/1.1\r\nHost:%bx%b\r\nX-A:%ba \tb%b\r\nContent-Length:%b3%b\r\n\r\nabc".replace(
        b"%b", around.encode()
    )
    message = forwarded(balancer, endpoint, raw)
    assert message.body == b"abc"
    assert message.get(b"host") == b"x"
    assert b"\r\nX-A: a \tb\r\n" in message.raw_head


def test_unknown_fields_and_methods_are_passed_on(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Sections 5.1, 9.1 and 16.3: what is not known is no reason to refuse, and names of methods have a case."""
    for method in ("BREW", "get", "M-SEARCH", "PROPFIND", "QUERY", "!#$%&'*+.^_`|~"):
        message = forwarded(balancer, endpoint, request(method, "/", "No-One-Knows: this", "X.$!: 1"))
        assert message.method == method.encode()
        assert message.get(b"no-one-knows") == b"this"
        assert message.get(b"x.$!") == b"1"


@pytest.mark.parametrize(
    "value", ["X-Named", ", X-Named", "X-Named,,", " ,\t, x-nAMED , ,", "a,b,X-Named", "keep-alive, X-Named"]
)
def test_connection_names_what_is_removed(value: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Sections 5.6.1.2 and 7.6.1: empty list members are ignored, options have no case."""
    message = forwarded(balancer, endpoint, request("GET", "/", f"Connection: {value}", "X-Named: 1", "X-Kept: 2"))
    assert message.get(b"x-named") is None
    assert message.get(b"connection") is None
    assert message.get(b"x-kept") == b"2"


@pytest.mark.parametrize("value", ["close", "Close", "CLOSE", ",close", "close,", "keep-alive, close", "x ,\tclose\t,"])
def test_close_in_any_spelling(value: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """RFC 9112, section 9.6: said back, the connection is closed, and nothing behind it is looked at."""
    a = endpoint()
    client = balancer(a).client()
    client.send(request("GET", "/", f"Connection: {value}") + request("GET", "/behind"))
    assert client.read_response().get(b"connection") == b"close"
    assert client.how_closed() == "fin"
    assert [m.target for m in a.heads] == [b"/"]
    assert a.connections[0].peer_end is None, "that was said to us, not to the endpoint"


def test_fields_for_the_endpoint_are_not_modified(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Sections 5.3, 10.1.3, 11.6.2, 11.7.2: order, credentials, Referer, and lists are left alone."""
    lines = [
        "Authorization: Basic dTpw",
        "Cache-Control: no-cache",
        "Proxy-Authorization: Basic cDpw",
        "Referer: http://example.test/?a=b",
        "Cache-Control: no-store,, max-age=0",
        "If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT",
        "Range: bytes=0-1, 5-",
        'If-None-Match: "a", W/"b"',
        "Content-Encoding: gzip",
        "Trailer: X-Sum",
    ]
    message = forwarded(balancer, endpoint, request("GET", "/", *lines))
    assert b"\r\n" + "\r\n".join(lines).encode() + b"\r\n" in message.raw_head


# Section 7: routing


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("/", b"/"),
        ("/%7Euser/%2F%2f?q=%20+&;", b"/%7Euser/%2F%2f?q=%20+&;"),
        ("/a/./b/../c//", b"/a/./b/../c//"),
        ("/?", b"/?"),
        ("/a?b?c/d", b"/a?b?c/d"),
        ('/[]|\\^`{}"<>', b'/[]|\\^`{}"<>'),
        ("http://other.test/%7Euser?", b"/%7Euser?"),
        ("http://other.test", b"/"),
        ("http://other.test?a", b"/?a"),
    ],
)
def test_path_and_query_are_not_modified(
    target: str, sent: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """Section 7.7, and RFC 9112, section 3.2.2: only an empty path becomes "/"."""
    assert forwarded(balancer, endpoint, request("GET", target)).target == sent


@pytest.mark.parametrize(
    ("method", "target", "sent"),
    [
        ("OPTIONS", "*", b"*"),
        ("OPTIONS", "http://example.test", b"*"),
        ("OPTIONS", "http://example.test/", b"/"),
        ("OPTIONS", "http://example.test?", b"/?"),
        ("GET", "http://example.test", b"/"),
    ],
)
def test_the_asterisk_form(
    method: str, target: str, sent: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """RFC 9112, section 3.2.4."""
    assert forwarded(balancer, endpoint, request(method, target)).target == sent


def test_any_host_is_passed_on_and_is_never_a_421(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Sections 7.7 and 15.5.20."""
    for host in ("example.test", "nowhere", "127.0.0.1:1", "EXAMPLE.test.:80", "[2001:db8::1]:443", "a_b", "%41.test"):
        assert forwarded(balancer, endpoint, request("GET", "/", host=host)).get(b"host") == host.encode()


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
def test_our_own_version_goes_both_ways(version: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """RFC 9112, section 2.3: whatever the others speak, what we send is HTTP/1.1."""
    a = endpoint(respond(response(b"ok").replace(b"HTTP/1.1", version)))
    client = balancer(a).client()
    client.send(request().replace(b"HTTP/1.1", version))
    assert client.read_response().raw_head.startswith(b"HTTP/1.1 200 ")
    assert a.requests[0].raw_head.startswith(b"GET / HTTP/1.1\r\n")


@pytest.mark.one_variant
def test_a_loop_of_intermediaries_ends(balancer: MakeBalancer) -> None:
    """Section 7.6: each turn adds a Via, so a request that comes back to us ends at `maxHeaderFields`."""
    lb = balancer(max_header_fields=20)
    lb.publish(make_endpoint("127.0.0.1", lb.port))
    message = lb.client().get("/", "Connection: close")
    assert message.status == 431
    ends = lb.ends()
    assert ends["bad_request"] == 1
    assert 1 < sum(ends.values()) < 20
    lb.publish()  # which closes the connections to itself


@pytest.mark.parametrize("length", ["0", "00000000000000000003", "18446744073709551619", "3 ", "9" * 40])
def test_content_length_does_not_overflow(length: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 8.6: read as it is, or refused."""
    a = endpoint()
    client = balancer(a).client()
    client.send(request("POST", "/", f"Content-Length: {length}") + b"abc")
    message = client.read_response("POST")
    if len(length) > 18:
        assert message.status == 400
        assert a.heads == []
    else:
        assert message.status == 200
        assert a.requests[0].body == b"abc"[: int(length)]


# RFC 9112, section 2: parsing


@pytest.mark.parametrize(
    "line",
    ["X: a\rb", "X: a\nb", "X: a\0b", "X: \r", "X: \n", "X: a\r\r", "X\r: a", "X\n: a", "X\0: a", "\r", "\0"],
    ids=repr,
)
def test_cr_lf_and_nul_are_refused_wherever_they_stand(
    line: str, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """Section 2.2, and RFC 9110, section 5.5."""
    a = endpoint()
    client = balancer(a).client()
    client.send(request("GET", "/", line))
    assert client.read_response().status == 400
    assert client.how_closed() == "fin"
    assert a.connections == []


@pytest.mark.parametrize("space", [b" ", b"\t", b" \t", b"\x0b", b"\x0c"], ids=repr)
@pytest.mark.parametrize("field", [b"", b"Host: y", b"Transfer-Encoding: chunked"])
def test_white_space_behind_the_start_line_is_refused(
    field: bytes, space: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """Section 2.2."""
    a = endpoint()
    client = balancer(a).client()
    client.send(b"POST / HTTP/1.1\r\n" + space + field + b"\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    assert client.read_response("POST").status == 400
    assert client.how_closed() == "fin"
    assert a.connections == []


def test_a_head_is_acted_on_when_it_is_whole(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """RFC 9110, section 5.3: a Host, a framing or a refusal may still come."""
    a = endpoint()
    lb = balancer(a)
    client = lb.client()
    raw = request("GET", "/", "X: 1")
    for piece in pieces(raw[:-1], 7):
        client.send(piece)
        lb.call(lambda: None)
    assert a.connections == []
    client.send(raw[-1:])
    assert client.read_response().status == 200


# RFC 9112, section 7: transfer codings


@pytest.mark.parametrize("line", [b"3", b"0003", b"3;a", b"3;a=b", b'3;a="b;c"', b"3 ;\ta = b", b"3;a;b=c;d"])
def test_chunk_extensions_are_ignored_and_removed(line: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 7.1.1. (That nothing of them is passed on is checked by the endpoint's strict reader.)"""
    body = line + b"\r\nabc\r\n0;x\r\n\r\n"
    raw = request("POST", "/", "Transfer-Encoding: chunked") + body
    assert forwarded(balancer, endpoint, raw).body == b"abc"


@pytest.mark.parametrize("size", [b"8000000000000000", b"ffffffffffffffff", b"10000000000000000", b"fffffffff0000000f"])
def test_chunk_sizes_do_not_overflow(size: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 7.1: what would be 0, 1 or less than zero in 64 bits is not."""
    a = endpoint()
    client = balancer(a).client()
    client.send(request("POST", "/", "Transfer-Encoding: chunked") + size + b"\r\nx\r\n0\r\n\r\n")
    if len(size) > 16:
        assert client.read_response("POST").status == 400
    else:
        client.fin()
        assert client.stream.take_to_end() == b"", "it waits for the rest, which can't come"
    assert a.requests == []


def test_a_body_keeps_what_looks_like_a_message(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 6.3: only the length ends a body."""
    inner = request("GET", "/inner") + b"\r\n0\r\n\r\n" + response(b"x")
    for raw in (
        request("POST", body=inner),
        request("POST", "/", "Transfer-Encoding: chunked") + chunked(*pieces(inner, 10)),
    ):
        assert forwarded(balancer, endpoint, raw).body == inner


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS", "POST", "BREW"])
def test_without_a_length_there_is_no_body(method: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Section 6.3, rule 7: what follows is the next request, and none is given a length."""
    a = endpoint(default=respond(b"HTTP/1.1 204 No Content\r\n\r\n"))
    client = balancer(a).client()
    client.send(request(method) + request("GET", "/next"))
    assert [client.read_response().status for _ in range(2)] == [204, 204]
    assert [(m.target, m.body) for m in a.requests] == [(b"/", b""), (b"/next", b"")]
    assert a.requests[0].get(b"content-length") is None
    assert a.requests[0].get(b"transfer-encoding") is None
