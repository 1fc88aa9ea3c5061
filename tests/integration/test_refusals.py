"""What is refused: the exact status, a reply and a close, and nothing of it reaches an endpoint."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest

from tests.fakes import chunked, eventually, pieces, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint

OK = b"Host: x\r\n"


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\n" + OK + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def get(*lines: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\n" + OK + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


SMUGGLED = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
TE = b"Transfer-Encoding: "
CL = b"Content-Length: "

# The raw request, the status, and the word for what is wrong.
BAD_FRAMING = {
    "length and chunked": (
        post(CL + b"5", TE + b"chunked", body=SMUGGLED),
        400,
        "content_length_and_transfer_encoding",
    ),
    "chunked and length": (
        post(TE + b"chunked", CL + b"5", body=SMUGGLED),
        400,
        "content_length_and_transfer_encoding",
    ),
    "length and chunked, GET": (get(CL + b"5", TE + b"chunked"), 400, "content_length_and_transfer_encoding"),
    "length 0 and chunked": (post(CL + b"0", TE + b"chunked", body=SMUGGLED), 400, None),
    "length twice, different": (post(CL + b"5", CL + b"6", body=b"abcde"), 400, "content_length"),
    "length twice, the same": (post(CL + b"5", CL + b"5", body=b"abcde"), 400, "content_length"),
    "length in two spellings": (post(CL + b"5", b"content-length: 5", body=b"abcde"), 400, "content_length"),
    "length as a list": (post(CL + b"5, 5", body=b"abcde"), 400, "content_length"),
    "length with a sign": (post(CL + b"+5", body=b"abcde"), 400, "content_length"),
    "length below zero": (post(CL + b"-5"), 400, "content_length"),
    "length in hexadecimal": (post(CL + b"0x5", body=b"abcde"), 400, "content_length"),
    "length with a fraction": (post(CL + b"5.0", body=b"abcde"), 400, "content_length"),
    "length with an underscore": (post(CL + b"1_0", body=b"a" * 10), 400, "content_length"),
    "length with a space": (post(CL + b"1 0", body=b"a" * 10), 400, "content_length"),
    "length that is empty": (post(b"Content-Length:", body=b"abcde"), 400, "content_length"),
    "length in foreign digits": (post(CL + b"\xd9\xa5", body=b"abcde"), 400, None),
    "length of 30 digits": (post(CL + b"1" * 30), 400, "content_length"),
    "coding gzip": (post(TE + b"gzip"), 400, "transfer_encoding"),
    "coding identity": (post(TE + b"identity"), 400, "transfer_encoding"),
    "coding gzip, chunked": (post(TE + b"gzip, chunked", body=SMUGGLED), 501, "transfer_encoding"),
    "coding chunked, gzip": (post(TE + b"chunked, gzip", body=SMUGGLED), 400, "transfer_encoding"),
    "coding chunked, chunked": (post(TE + b"chunked, chunked", body=SMUGGLED), 400, "transfer_encoding"),
    "coding chunked twice": (post(TE + b"chunked", TE + b"chunked", body=SMUGGLED), 400, "transfer_encoding"),
    "coding chunked and identity": (post(TE + b"chunked", TE + b"identity", body=SMUGGLED), 400, "transfer_encoding"),
    "coding with a parameter": (post(TE + b"chunked;q=1", body=SMUGGLED), 400, "transfer_encoding"),
    "coding with a comma": (post(TE + b"chunked,", body=SMUGGLED), 400, "transfer_encoding"),
    "coding behind a comma": (post(TE + b",chunked", body=SMUGGLED), 400, "transfer_encoding"),
    "coding in quotes": (post(TE + b'"chunked"', body=SMUGGLED), 400, "transfer_encoding"),
    "coding xchunked": (post(TE + b"xchunked", body=SMUGGLED), 400, "transfer_encoding"),
    "coding that is empty": (post(b"Transfer-Encoding:", body=SMUGGLED), 400, "transfer_encoding"),
    "coding behind a vertical tab": (post(TE + b"\x0bchunked", body=SMUGGLED), 400, "control_character"),
    "coding with a space before the colon": (post(b"Transfer-Encoding : chunked", body=SMUGGLED), 400, "field_name"),
    "coding with a tab before the colon": (post(b"Transfer-Encoding\t: chunked", body=SMUGGLED), 400, "field_name"),
    "coding that is folded": (post(b"Transfer-Encoding:\r\n chunked", body=SMUGGLED), 400, "folded_line"),
    "coding behind a bare LF": (post(b"A: b\n" + TE + b"chunked", body=SMUGGLED), 400, "bare_line_end"),
    "coding behind a bare CR": (post(b"A: b\r" + TE + b"chunked", body=SMUGGLED), 400, "bare_line_end"),
    "coding in HTTP/1.0": (
        b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + SMUGGLED,
        400,
        "transfer_encoding",
    ),
}

BAD_HEADS = {
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400, "host"),
    "Host twice": (get(b"Host: x"), 400, "host"),
    "Host twice, different": (get(b"Host: y"), 400, "host"),
    "Host with a path": (b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n", 400, "host"),
    "Host with a user": (b"GET / HTTP/1.1\r\nHost: u@x\r\n\r\n", 400, "host"),
    "Host with a bad port": (b"GET / HTTP/1.1\r\nHost: x:99999\r\n\r\n", 400, "host"),
    "Host with spaces": (b"GET / HTTP/1.1\r\nHost: x y\r\n\r\n", 400, "host"),
    "Host that is empty": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "host"),
    "absolute form without Host": (b"GET http://x/ HTTP/1.1\r\n\r\n", 400, "host"),
    "a bare LF": (b"GET / HTTP/1.1\nHost: x\r\n\r\n", 400, "bare_line_end"),
    "bare LFs alone": (b"GET / HTTP/1.1\nHost: x\n\n", 400, "bare_line_end"),
    "a bare CR": (b"GET / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n", 400, "bare_line_end"),
    "a NUL": (get(b"A: \x00b"), 400, "control_character"),
    "a control character": (get(b"A: a\x01b"), 400, "control_character"),
    "DEL": (get(b"A: a\x7fb"), 400, "control_character"),
    "a folded field": (get(b"A: a\r\n b"), 400, "folded_line"),
    "a folded first field": (b"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400, "folded_line"),
    "a field without a colon": (get(b"abc"), 400, None),
    "a field without a name": (get(b": b"), 400, "field_name"),
    "a space before the colon": (get(b"A : b"), 400, "field_name"),
    "a name that is no token": (get(b"A(: b"), 400, "field_name"),
    "a name with a high byte": (get(b"\xe9: b"), 400, "field_name"),
    "no version": (b"GET /\r\n\r\n", 400, None),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400, None),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400, None),
    "a high byte in the target": (b"GET /\xe9 HTTP/1.1\r\nHost: x\r\n\r\n", 400, None),
    "a tab in the start line": (b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, None),
    "a method that is no token": (b"G(T / HTTP/1.1\r\nHost: x\r\n\r\n", 400, None),
    "a version in lower case": (b"GET / http/1.1\r\nHost: x\r\n\r\n", 400, None),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, "version"),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", 505, "version"),
    "HTTP/0.9": (b"GET / HTTP/0.9\r\nHost: x\r\n\r\n", 505, "version"),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "version"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, None),
    "three empty lines": (b"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "empty_lines"),
    "CONNECT": (b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", 405, "method"),
    "TRACE": (b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method"),
    "an asterisk for GET": (b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400, "target"),
    "a target without a slash": (b"GET x HTTP/1.1\r\nHost: x\r\n\r\n", 400, "target"),
    "a target with a fragment": (b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", 400, "target"),
    "an absolute target with a fragment": (b"GET http://x/a#b HTTP/1.1\r\nHost: x\r\n\r\n", 400, "target"),
    "an https target": (b"GET https://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "target"),
    "a target without an authority": (b"GET http:///x HTTP/1.1\r\nHost: x\r\n\r\n", 400, "target"),
    "a target with a user": (b"GET http://u@x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "host"),
}

LIMITS = {
    "a target of 8193 bytes": (request("GET", "/" + "a" * 8192), 414, "target_too_long"),
    "a target without an end": (b"GET /" + b"a" * 9000, 414, "target_too_long"),
    "a head of 32769 bytes": (get(b"A: " + b"a" * (32769 - len(get(b"A: ")))), 431, "head_too_large"),
    "a head without an end": (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 33000, 431, "head_too_large"),
    "101 fields": (get(*[b"A: b"] * 100), 431, "too_many_fields"),
}

ALL = BAD_FRAMING | BAD_HEADS | LIMITS


@pytest.mark.parametrize("name", ALL)
def test_it_is_refused_and_nothing_reaches_the_endpoint(
    name: str, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    raw, status, what = ALL[name]
    a = endpoint()
    lb = balancer(a)
    client = lb.client()
    # A good request on the same connection before it, and another behind it that must not be looked at.
    client.send(request() + raw + (b"" if "without an end" in name else request("GET", "/behind")))
    assert client.read_response().status == 200
    message = client.read_response()
    problem = json.loads(message.body)
    assert (message.status, problem["status"]) == (status, status), problem
    assert message.get(b"content-type") == b"application/problem+json"
    assert message.get(b"connection") == b"close"
    assert what is None or problem["reason"] == f"bad_request:{what}", problem
    assert problem["reason"].startswith("bad_request:")
    assert message.get(b"proxy-status") == b'podlb; error=http_request_error; details="%b"' % problem["reason"].encode()
    assert problem["requestId"].encode() == message.get(b"x-request-id")
    assert client.how_closed() == "fin"
    assert lb.ends() == {"ok": 1, "bad_request": 1}
    assert [m.target for m in a.heads] == [b"/"]
    assert [c.requests for c in a.connections] == [1]
    if status == 405:
        assert message.get(b"allow") == b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"


@pytest.mark.parametrize("name", ["length and chunked", "a bare LF", "no Host", "coding that is folded", "101 fields"])
def test_it_is_refused_byte_by_byte(name: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    raw, status, _ = ALL[name]
    a = endpoint()
    lb = balancer(a)
    client = lb.client()
    with suppress(ConnectionError):  # refused before its end
        client.send(*pieces(raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"))
    assert client.read_response().status == status
    assert lb.ends() == {"bad_request": 1}
    assert a.connections == []


# What is wrong shows only in the body, whose head may be at an endpoint by then: it never sees a complete request.
TE_POST = post(b"Transfer-Encoding: chunked")
BAD_CHUNKS = {
    "bare LF behind the size": (b"3\nabc\r\n0\r\n\r\n", "chunk_size"),
    "bare LF behind the data": (b"3\r\nabc\n0\r\n\r\n", "chunk"),
    "bare LF at the end": (b"3\r\nabc\r\n0\r\n\n", None),
    "bare CR behind the size": (b"3\rabc\r\n0\r\n\r\n", "chunk_size"),
    "a size with 0x": (b"0x3\r\nabc\r\n0\r\n\r\n", "chunk_size"),
    "a size with a sign": (b"+3\r\nabc\r\n0\r\n\r\n", "chunk_size"),
    "a size below zero": (b"-3\r\nabc\r\n0\r\n\r\n", "chunk_size"),
    "a size with a space before": (b" 3\r\nabc\r\n0\r\n\r\n", "chunk_size"),
    "a size with a space behind": (b"3 \r\nabc\r\n0\r\n\r\n", "chunk_size"),
    "a size with an underscore": (b"1_0\r\nabc\r\n0\r\n\r\n", "chunk_size"),
    "a size that is empty": (b"\r\nabc\r\n0\r\n\r\n", "chunk_size"),
    "a size of 17 digits": (b"0" * 16 + b"3\r\nabc\r\n0\r\n\r\n", "chunk_size"),
    "a size that is none": (b"xyz\r\nabc\r\n0\r\n\r\n", "chunk_size"),
    "an extension with a bare LF": (b"3;a\nb\r\nabc\r\n0\r\n\r\n", "chunk_size"),
    "an extension with a NUL": (b"3;a\x00\r\nabc\r\n0\r\n\r\n", "chunk_size"),
    "an extension without an end": (b"3;" + b"a" * 2000, "chunk_extension"),
    "data longer than the size": (b"3\r\nabcd\r\n0\r\n\r\n", "chunk"),
    "data shorter than the size": (b"4\r\nabc\r\n0\r\n\r\n", "chunk"),
    "a trailer that is folded": (b"0\r\nA: b\r\n c\r\n\r\n", "trailers"),
    "a trailer with a bare LF": (b"0\r\nA: b\nC: d\r\n\r\n", "trailers"),
    "a trailer without a colon": (b"0\r\nabc\r\n\r\n", "trailers"),
    "a trailer with a space before the colon": (b"0\r\nA : b\r\n\r\n", "trailers"),
    "too many trailers": (b"0\r\n" + b"A: b\r\n" * 65 + b"\r\n", "trailers"),
    "trailers without an end": (b"0\r\nA: " + b"b" * 17000, "trailers"),
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_bad_chunk(when: str, name: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    chunks, what = BAD_CHUNKS[name]
    a = endpoint()
    lb = balancer(a)
    client = lb.client()
    if when == "at once":
        client.send(TE_POST + chunks + request("GET", "/behind"))
    else:
        client.send(TE_POST + chunked(b"first")[:-5])
        a.wait_for_heads(1)
        client.send(chunks + request("GET", "/behind"))
    message = client.read_response("POST")
    problem = json.loads(message.body)
    assert message.status == 400
    assert message.get(b"connection") == b"close"
    assert what is None or problem["reason"] == f"bad_request:{what}"
    assert client.how_closed() == "fin"
    assert lb.ends() == {"bad_request": 1}
    assert a.requests == []
    eventually(lambda: a.open_connections == 0, "the end of the connection to the endpoint")
    # What comes with the head, in one read, is read before an endpoint is looked for.
    is_one_read = when == "at once" and len(chunks) < 1000
    assert len(a.heads) <= (0 if is_one_read else 1)


def test_two_empty_lines_are_ignored(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    client = balancer(a).client()
    for _ in range(3):
        assert client.exchange(b"\r\n\r\n" + request(), "GET").status == 200
    assert len(a.requests) == 3


@pytest.mark.parametrize(
    "raw",
    [
        request("GET", "/" + "a" * 8191),
        get(b"A: " + b"a" * (32768 - len(get(b"A: ")))),
        get(*[b"A: b"] * 99),
    ],
    ids=["target", "head", "fields"],
)
def test_what_is_just_within_the_limits(raw: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    assert balancer(a).client().exchange(raw, "GET").status == 200
    assert len(a.requests) == 1


@pytest.mark.parametrize("how", ["length", "chunked", "length at once", "chunked at once"])
def test_a_body_over_the_limit(how: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    lb = balancer(a, max_request_body_bytes=1000)
    client = lb.client()
    good = request("POST", body=b"x" * 1000)
    assert client.exchange(good).status == 200
    if how.startswith("length"):
        head, body = post(b"Content-Length: 1001"), b"x" * 1001
    else:
        head, body = TE_POST, chunked(b"x" * 600, b"x" * 401)
    if how.endswith("at once"):
        client.send(head + body)
    else:
        client.send(head)
        if how == "chunked":
            a.wait_for_heads(2)
            client.send(body)
    message = client.read_response("POST")
    assert message.status == 413
    assert json.loads(message.body)["reason"] == "bad_request:body_too_large"
    assert message.get(b"connection") == b"close"
    assert len(a.requests) == 1
    if how != "chunked":
        assert len(a.heads) == 1, "what can be known to be too large is refused before anything reaches an endpoint"
    assert lb.ends() == {"ok": 1, "bad_request": 1}
    assert client.how_closed() == "fin"


def test_other_limits_are_the_configured_ones(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    lb = balancer(a, max_request_target_bytes=20, max_request_head_bytes=300, max_header_fields=3)
    for raw, status in [
        (request("GET", "/" + "a" * 19), 200),
        (request("GET", "/" + "a" * 20), 414),
        (request("GET", "/", "A: " + "a" * 300), 431),
        (request("GET", "/", "A: b", "C: d"), 200),
        (request("GET", "/", "A: b", "C: d", "E: f"), 431),
    ]:
        assert lb.client().exchange(raw).status == status
    assert len(a.requests) == 2
