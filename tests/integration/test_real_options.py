"""curl with its odder options, and nghttp2's HTTP/1.1 client, through the balancer to a demo backend."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fakes import Message, chunked
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Endpoint, respond, response
from tests.integration.harness import Balancer
from tests.integration.processes import Backend

pytestmark = pytest.mark.any_parser

CURL, H2LOAD = shutil.which("curl"), shutil.which("h2load")
needs_curl = pytest.mark.skipif(CURL is None, reason="curl is not installed")
needs_h2load = pytest.mark.skipif(H2LOAD is None, reason="h2load is not installed (nghttp2-client)")


@pytest.fixture
def a(endpoint: MakeEndpoint) -> Endpoint:
    return endpoint(default=respond(response(b"body", "ETag: x")))


@pytest.fixture
def lb(balancer: MakeBalancer, a: Endpoint) -> Balancer:
    return balancer(a)


def curl(lb: Balancer, *options: str, path: str = "/", fails: bool = False) -> str:
    assert CURL is not None
    done = subprocess.run(
        [CURL, "-sS", "--max-time", "8", "--noproxy", "*", *options, f"http://127.0.0.1:{lb.port}{path}"],
        capture_output=True,
        text=True,
        timeout=9,
        check=False,
    )
    assert (done.returncode != 0) is fails, done.stderr
    return done.stdout


def only(a: Endpoint) -> Message:
    [message] = a.requests
    return message


@needs_curl
class TestCurl:
    def test_http_1_0(self, lb: Balancer, a: Endpoint) -> None:
        assert "Connection: close" in curl(lb, "--http1.0", "-i")
        assert only(a).start[0] == b"GET"

    def test_head(self, lb: Balancer, a: Endpoint) -> None:
        assert "Content-Length: 4" in curl(lb, "-I")
        assert only(a).method == b"HEAD"

    def test_upload_with_expect(self, lb: Balancer, a: Endpoint, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_bytes(b"x" * 2_000_000)
        assert curl(lb, "-T", str(file), "-H", "Expect: 100-continue") == "body"
        assert (only(a).method, len(only(a).body)) == (b"PUT", 2_000_000)

    def test_chunked_upload(self, lb: Balancer, a: Endpoint) -> None:
        assert curl(lb, "-H", "Transfer-Encoding: chunked", "-d", "abc") == "body"
        assert only(a).get(b"transfer-encoding") == b"chunked"
        assert only(a).body == b"abc"

    def test_two_on_one_connection(self, lb: Balancer, a: Endpoint) -> None:
        url = f"http://127.0.0.1:{lb.port}/2"
        out = curl(lb, "-w", "%{num_connects}", "-o", "/dev/null", url, "-o", "/dev/null")
        assert out == "10"
        assert len(a.requests) == 2

    def test_no_keepalive_and_close(self, lb: Balancer, a: Endpoint) -> None:
        assert curl(lb, "--no-keepalive", "-H", "Connection: close") == "body"
        assert only(a).get(b"connection") is None

    def test_path_as_is(self, lb: Balancer, a: Endpoint) -> None:
        curl(lb, "--path-as-is", path="/a/../b/./c//d?e=%2f")
        assert only(a).target == b"/a/../b/./c//d?e=%2f"

    def test_request_target(self, lb: Balancer, a: Endpoint) -> None:
        curl(lb, "-X", "OPTIONS", "--request-target", "*")
        assert only(a).start[:2] == (b"OPTIONS", b"*")

    def test_absolute_target(self, lb: Balancer, a: Endpoint) -> None:
        curl(lb, "--request-target", "http://other.example/x?y")
        assert (only(a).target, only(a).get(b"host")) == (b"/x?y", b"other.example")

    def test_as_a_proxy(self, lb: Balancer, a: Endpoint) -> None:
        assert CURL is not None
        command = [CURL, "-sS", "-x", f"http://127.0.0.1:{lb.port}", "http://shop.example/x"]
        assert subprocess.run(command, capture_output=True, timeout=9, check=True).stdout == b"body"
        assert (only(a).target, only(a).get(b"host")) == (b"/x", b"shop.example")
        assert only(a).get(b"proxy-connection") is None

    def test_without_a_host(self, lb: Balancer, a: Endpoint) -> None:
        out = curl(lb, "-i", "-H", "Host:")
        assert out.startswith("HTTP/1.1 400 ")
        assert json.loads(out.partition("\n\n")[2] or out.rpartition("\r\n\r\n")[2])["reason"] == "bad_request:host"
        assert a.requests == []

    def test_ranges_and_compression_are_the_endpoints(self, lb: Balancer, a: Endpoint) -> None:
        curl(lb, "-r", "1-2", "--compressed", "-H", "If-None-Match: x")
        assert only(a).get(b"range") == b"bytes=1-2"
        assert b"gzip" in (only(a).get(b"accept-encoding") or b"")
        assert only(a).get(b"if-none-match") == b"x"

    def test_transfer_encodings_are_not_asked_for(self, lb: Balancer, a: Endpoint) -> None:
        assert curl(lb, "--tr-encoding") == "body"
        assert only(a).get(b"te") is None

    def test_an_upgrade_to_http2_is_not_offered(self, lb: Balancer, a: Endpoint) -> None:
        assert curl(lb, "--http2") == "body"
        assert {b"upgrade", b"http2-settings", b"connection"}.isdisjoint(only(a).names)

    def test_http2_at_once_is_refused(self, lb: Balancer, a: Endpoint) -> None:
        curl(lb, "--http2-prior-knowledge", fails=True)
        assert a.requests == []
        assert lb.ends() == {"bad_request": 1}

    def test_an_empty_value_and_odd_fields(self, lb: Balancer, a: Endpoint) -> None:
        curl(lb, "-H", "X-Empty;", "-H", "x-LOWER: a  b", "-A", "")
        assert only(a).get(b"x-empty") == b""
        assert only(a).get(b"x-lower") == b"a  b"

    def test_a_field_that_curl_would_send_is_removed(self, lb: Balancer, a: Endpoint) -> None:
        curl(lb, "-H", "Accept:", "-H", "User-Agent:")
        assert {b"accept", b"user-agent"}.isdisjoint(only(a).names), "and none is added"

    def test_next_in_other_ways_on_one_connection(self, lb: Balancer, a: Endpoint) -> None:
        url = f"http://127.0.0.1:{lb.port}"
        show = ("-sS", "-o", "/dev/null", "-w", "%{http_code}/%{num_connects} ")
        options = (*show, f"{url}/1", "--next", *show, "-d", "abc", f"{url}/2", "--next", *show, "-I", f"{url}/3")
        assert curl(lb, *options, "--next", *show) == "200/1 200/0 200/0 200/0 "
        assert [m.method for m in a.requests] == [b"GET", b"POST", b"HEAD", b"GET"]

    def test_raw_chunks_are_whole(self, lb: Balancer, a: Endpoint) -> None:
        a.default = respond(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"abc", b"defg"))
        assert curl(lb) == "abcdefg"
        raw = curl(lb, "--raw")
        assert raw.endswith("\n0\n\n")
        assert sum(int(line, 16) for line in raw.split("\n")[::2] if line) == 7

    def test_compressed_content_is_not_touched(self, lb: Balancer, a: Endpoint) -> None:
        a.default = respond(response(gzip.compress(b"plain" * 1000), "Content-Encoding: gzip"))
        assert curl(lb, "--compressed") == "plain" * 1000

    def test_a_range_of_the_endpoint(self, lb: Balancer, a: Endpoint) -> None:
        a.default = respond(response(b"od", "Content-Range: bytes 1-2/4", status="206 Partial Content"))
        assert curl(lb, "-r", "1-2", "-w", "%{http_code}") == "od206"

    def test_a_head_that_is_too_large(self, lb: Balancer, a: Endpoint) -> None:
        assert curl(lb, "-o", "/dev/null", "-w", "%{http_code}", "-H", "A: " + "a" * 40_000) == "431"
        assert curl(lb, "-o", "/dev/null", "-w", "%{http_code}", path="/" + "a" * 9_000) == "414"
        assert a.requests == []

    def test_an_upload_that_is_refused_early(
        self, balancer: MakeBalancer, endpoint: MakeEndpoint, tmp_path: Path
    ) -> None:
        """Two megabytes are on their way when the 413 is there: curl reads it."""
        file = tmp_path / "file"
        file.write_bytes(b"x" * 2_000_000)
        lb = balancer(endpoint(), max_request_body_bytes=1000)
        for expect in ("Expect: 100-continue", "Expect:"):
            out = curl(lb, "-o", "/dev/null", "-w", "%{http_code}", "-T", str(file), "-H", expect)
            assert out == "413"


@needs_h2load
@pytest.mark.one_variant
def test_h2load_in_http_1_1(balancer: MakeBalancer) -> None:
    with Backend() as backend:
        lb = balancer(backend.value)
        assert H2LOAD is not None
        done = subprocess.run(
            [H2LOAD, "--h1", "-n", "2000", "-c", "20", "-m", "4", f"http://127.0.0.1:{lb.port}/"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert "2000 succeeded, 0 failed" in done.stdout, done.stdout
        assert lb.ends() == {"ok": 2000}
