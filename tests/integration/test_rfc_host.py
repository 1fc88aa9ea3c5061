"""Host (RFC 9112, section 3.2; RFC 3986, section 3.2.2): exactly one valid one, whatever the form of the target."""

from __future__ import annotations

import pytest

from tests.integration.conftest import MakeBalancer, MakeEndpoint

INVALID = [
    b"[",
    b"[]",
    b"[::1",
    b"::1",
    b"[::1]x",
    b"[:::]",
    b"[1:2]",
    b"[1:2:3:4:5:6:7:8:9]",
    b"[1::2::3]",
    b"[12345::]",
    b"[g::]",
    b"[::1.2.3]",
    b"[::1.2.3.256]",
    b"[1.2.3.4]",
    b"[::1%25lo]",
    b"[::1]:65536",
    b"x:y",
    b"x:-1",
    b"x:+1",
    b"x:1:2",
    b"x:65536",
    b"a b",
    b"a/b",
    b"a?b",
    b"a#b",
    b"a@b",
    b"u:p@b",
    b"a\\b",
    b'"a"',
    b"<a>",
    b"%",
    b"%4",
    b"%zz",
    b"a\xe9",
    b"http://a",
]


# In a target "/" and "?" would end it.
AUTHORITIES = [host for host in INVALID if b"/" not in host and b"?" not in host]


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
@pytest.mark.parametrize("target", [b"/", b"http://good.test/"])
@pytest.mark.parametrize("host", INVALID, ids=repr)
def test_an_invalid_host_is_refused(
    host: bytes, target: bytes, version: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    """Also one that an absolute-form target would replace, and also in HTTP/1.0."""
    a = endpoint()
    client = balancer(a).client()
    client.send(b"GET " + target + b" " + version + b"\r\nHost: " + host + b"\r\n\r\n")
    assert client.read_response().status == 400
    assert client.how_closed() == "fin"
    assert a.connections == []


@pytest.mark.parametrize("authority", AUTHORITIES, ids=repr)
def test_an_invalid_authority_is_refused(authority: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    client = balancer(a).client()
    client.send(b"GET http://" + authority + b"/ HTTP/1.1\r\nHost: good.test\r\n\r\n")
    assert client.read_response().status == 400
    assert client.how_closed() == "fin"
    assert a.connections == []


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
@pytest.mark.parametrize("target", [b"/", b"http://x/"])
@pytest.mark.parametrize("lines", [b"Host: x\r\nHost: x", b"Host: x\r\nA: b\r\nhOST: y", b"Host:\r\nHost: x"], ids=repr)
def test_more_than_one_host_is_refused(
    lines: bytes, target: bytes, version: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a = endpoint()
    client = balancer(a).client()
    client.send(b"GET " + target + b" " + version + b"\r\n" + lines + b"\r\n\r\n")
    assert client.read_response().status == 400
    assert client.how_closed() == "fin"
    assert a.connections == []


@pytest.mark.parametrize("target", [b"/", b"http://x/", b"*"])
def test_no_host_is_refused_in_http_1_1(target: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    client = balancer(a).client()
    client.send(b"OPTIONS " + target + b" HTTP/1.1\r\nAccept: x\r\n\r\n")
    assert client.read_response("OPTIONS").status == 400
    assert client.how_closed() == "fin"
    assert a.connections == []


VALID = [
    b"x",
    b"x:80",
    b"x:",
    b"x:0",
    b"x:65535",
    b"a.b-c_d~e",
    b"!$&'()*+,;=",
    b"%41%ff",
    b"1.2.3.4:1",
    b"1.2.3.4.5",
    b"[::]",
    b"[::1]:80",
    b"[::1]:",
    b"[1:2:3:4:5:6:7:8]",
    b"[1::8]",
    b"[A:b::]",
    b"[::ffff:1.2.3.4]",
    b"[2001:db8::1]",
    b"x" * 253,
]


@pytest.mark.parametrize("host", VALID, ids=repr)
def test_a_valid_host_is_passed_on(host: bytes, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    client = balancer(a).client()
    client.send(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert client.read_response().status == 200
    client.send(b"GET http://" + host + b"/ HTTP/1.1\r\nHost: other.test\r\n\r\n")
    assert client.read_response().status == 200
    assert [m.get(b"host") for m in a.requests] == [host, host], "the authority replaces the Host"
