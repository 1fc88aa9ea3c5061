"""curl, wrk, http.client and requests, through the balancer to demo backends."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from lb import metrics
from tests.fakes import eventually
from tests.integration.conftest import MakeBalancer
from tests.integration.harness import Balancer
from tests.integration.processes import Backend

pytestmark = pytest.mark.any_parser

CURL, WRK = shutil.which("curl"), shutil.which("wrk")
needs_curl = pytest.mark.skipif(CURL is None, reason="curl is not installed")
needs_wrk = pytest.mark.skipif(WRK is None, reason="wrk is not installed")


@pytest.fixture(scope="module")
def backends() -> Iterator[list[Backend]]:
    with Backend() as first, Backend() as second:
        assert isinstance(first, Backend)
        assert isinstance(second, Backend)
        yield [first, second]


@pytest.fixture
def lb(balancer: MakeBalancer, backends: list[Backend]) -> Balancer:
    return balancer(*[backend.value for backend in backends])


def curl(lb: Balancer, *arguments: str, target: str = "/", data: bytes | None = None, code: int = 0) -> bytes:
    """Run curl; return what it wrote to stdout."""
    assert CURL is not None
    done = subprocess.run(
        [CURL, "--silent", "--show-error", "--noproxy", "*", *arguments, f"http://127.0.0.1:{lb.port}{target}"],
        input=data,
        capture_output=True,
        timeout=8,
    )
    assert done.returncode == code, (done.returncode, done.stderr)
    return done.stdout


def fields(echo: dict[str, object]) -> dict[str, str]:
    assert isinstance(echo["fields"], list)
    return {name.lower(): value for name, value in echo["fields"]}


@needs_curl
class TestCurl:
    def test_get(self, lb: Balancer) -> None:
        echo = json.loads(curl(lb, target="/echo?a=b"))
        assert (echo["method"], echo["target"], echo["bodyLength"]) == ("GET", "/echo?a=b", 0)
        sent = fields(echo)
        assert sent["host"] == f"127.0.0.1:{lb.port}"
        assert sent["user-agent"].startswith("curl/")
        assert sent["x-forwarded-for"] == "127.0.0.1"
        assert lb.ends() == {"ok": 1}

    def test_head(self, lb: Balancer) -> None:
        head = curl(lb, "--head", target="/?size=5k").decode()
        assert head.startswith("HTTP/1.1 200 OK")
        assert "Content-Length: 5120" in head

    def test_http_1_0(self, lb: Balancer) -> None:
        assert len(curl(lb, "--http1.0", target="/?size=20k&chunked=1")) == 20480
        assert json.loads(curl(lb, "--http1.0", "--data", "x=1", target="/echo"))["body"] == "x=1"

    def test_two_requests_on_one_connection(self, lb: Balancer) -> None:
        url = f"http://127.0.0.1:{lb.port}/"
        text = curl(lb, "--write-out", "%{num_connects}\n", "--output", "/dev/null", url, "--output", "/dev/null")
        assert text.split() == [b"1", b"0"]
        picks = [lb.endpoint_counter(e, metrics.PICKS) for e in lb.service.snapshot]
        assert picks == [1, 1], "and yet each to another endpoint"

    @pytest.mark.parametrize("size", [0, 10, 3_000_000])
    def test_upload_with_a_length(self, size: int, lb: Balancer, tmp_path: Path) -> None:
        # From a size on curl asks with Expect: 100-continue first.
        body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        file = tmp_path / "body"
        file.write_bytes(body)
        echo = json.loads(curl(lb, "--upload-file", str(file), target="/echo"))
        assert (echo["method"], echo["bodyLength"]) == ("PUT", size)
        assert echo["bodySha256"] == hashlib.sha256(body).hexdigest()

    def test_upload_from_a_pipe_is_chunked(self, lb: Balancer) -> None:
        body = b"0123456789abcdef" * 100_000
        echo = json.loads(curl(lb, "--upload-file", "-", target="/echo", data=body))
        assert (echo["bodyLength"], echo["bodySha256"]) == (len(body), hashlib.sha256(body).hexdigest())
        assert fields(echo)["transfer-encoding"] == "chunked"

    def test_expect_100_continue(self, lb: Balancer) -> None:
        body = b"x" * 5000
        text = curl(lb, "-i", "-H", "Expect: 100-continue", "--data-binary", "@-", target="/echo", data=body).decode()
        interim, final, content = text.split("\r\n\r\n", 2)
        assert interim.startswith("HTTP/1.1 100 Continue")
        assert final.startswith("HTTP/1.1 200")
        assert json.loads(content)["bodyLength"] == 5000

    @pytest.mark.parametrize("method", ["OPTIONS", "DELETE", "PATCH", "FROBNICATE"])
    def test_other_methods(self, method: str, lb: Balancer) -> None:
        assert json.loads(curl(lb, "--request", method, target="/echo"))["method"] == method

    def test_refused_methods(self, lb: Balancer) -> None:
        assert curl(lb, "--request", "TRACE", "-o", "/dev/null", "-w", "%{http_code}") == b"405"

    def test_options_asterisk(self, lb: Balancer) -> None:
        text = curl(lb, "--request", "OPTIONS", "--request-target", "*", "-o", "/dev/null", "-w", "%{http_code}")
        assert text == b"200"

    def test_as_a_proxy(self, lb: Balancer) -> None:
        """curl sends the absolute form; its authority is the host that the endpoint sees."""
        assert CURL is not None
        done = subprocess.run(
            [CURL, "-sS", "--noproxy", "", "--proxy", f"http://127.0.0.1:{lb.port}", "http://other.test/echo?x"],
            capture_output=True,
            timeout=8,
        )
        echo = json.loads(done.stdout)
        assert (echo["target"], fields(echo)["host"]) == ("/echo?x", "other.test")
        assert "proxy-connection" not in fields(echo)

    def test_path_as_it_is(self, lb: Balancer) -> None:
        assert json.loads(curl(lb, "--path-as-is", target="/echo?../%2e%2e/;a=b"))["target"] == "/echo?../%2e%2e/;a=b"

    def test_an_answer_that_takes_too_long(self, lb: Balancer) -> None:
        curl(lb, "--max-time", "0.3", target="/?delay=5s", code=28)
        assert lb.ends() == {"client_gone": 1}

    def test_a_truncated_answer(self, lb: Balancer) -> None:
        curl(lb, "-o", "/dev/null", target="/?size=100k&reset=1", code=56)
        assert curl(lb, "-o", "/dev/null", "--http1.0", target="/?size=100k&reset=1&chunked=1", code=56) == b""
        assert lb.ends() == {"reset_in_body": 2}

    def test_statuses(self, lb: Balancer) -> None:
        for status in (204, 301, 304, 404, 418, 503):
            text = curl(lb, "-o", "/dev/null", "-w", "%{http_code} %{size_download}", target=f"/?status={status}")
            assert text.split()[0] == str(status).encode()
        assert lb.ends() == {"ok": 6}


@needs_wrk
@pytest.mark.one_variant
def test_wrk(lb: Balancer) -> None:
    assert WRK is not None
    done = subprocess.run(
        [WRK, "-t1", "-c16", "-d1s", f"http://127.0.0.1:{lb.port}/"], capture_output=True, text=True, timeout=9
    )
    assert done.returncode == 0
    assert "Socket errors" not in done.stdout
    assert "Non-2xx" not in done.stdout
    match = re.search(r"(\d+) requests in", done.stdout)
    assert match is not None
    assert int(match[1]) > 100
    eventually(lambda: lb.counter(metrics.CONNECTIONS_OPEN) == 0, "the end")
    picks = [lb.endpoint_counter(e, metrics.PICKS) for e in lb.service.snapshot]
    assert max(picks) - min(picks) <= 1
    assert set(lb.ends()) <= {"ok", "client_gone"}


def test_http_client(lb: Balancer) -> None:
    client = http.client.HTTPConnection("127.0.0.1", lb.port, timeout=5)
    for n in range(6):
        client.request("GET", f"/echo?n={n}", headers={"X-Request-Id": f"id-{n}"})
        response = client.getresponse()
        assert response.status == 200
        echo = json.loads(response.read())
        assert (echo["target"], fields(echo)["x-request-id"]) == (f"/echo?n={n}", f"id-{n}")
    client.request("POST", "/echo", body=iter([b"abc", b"", b"def"]), encode_chunked=True)
    assert json.loads(client.getresponse().read())["body"] == "abcdef"
    client.request("HEAD", "/?size=1k")
    response = client.getresponse()
    assert (response.getheader("Content-Length"), response.read()) == ("1024", b"")
    client.request("GET", "/?size=100k&chunked=1")
    assert len(client.getresponse().read()) == 102400
    client.request("GET", "/?close=1")
    assert client.getresponse().read()
    assert client.sock is not None, "the backend's close is not the client's"
    client.close()
    assert lb.counter(metrics.CONNECTIONS) == 1


def test_http_client_sees_a_truncation(lb: Balancer) -> None:
    for target in ("/?size=300k&reset=1", "/?size=300k&reset=1&chunked=1"):
        client = http.client.HTTPConnection("127.0.0.1", lb.port, timeout=5)
        client.request("GET", target)
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            client.getresponse().read()
        client.close()


def test_requests(lb: Balancer) -> None:
    url = f"http://127.0.0.1:{lb.port}"
    with requests.Session() as session:
        session.trust_env = False
        echo = session.post(f"{url}/echo", json={"a": 1}, headers={"X-Forwarded-For": "6.6.6.6"}).json()
        assert json.loads(echo["body"]) == {"a": 1}
        assert fields(echo)["x-forwarded-for"] == "127.0.0.1"
        echo = session.put(f"{url}/echo", data=(b"x" * 1000 for _ in range(50))).json()
        assert (echo["bodyLength"], fields(echo)["transfer-encoding"]) == (50_000, "chunked")
        response = session.get(f"{url}/?size=3m", stream=True)
        assert sum(len(part) for part in response.iter_content(65536)) == 3 * 1024 * 1024
        assert session.get(f"{url}/?status=503").status_code == 503
        assert session.options(f"{url}/echo").json()["method"] == "OPTIONS"
        assert session.head(f"{url}/?size=1k").headers["Content-Length"] == "1024"
    assert lb.counter(metrics.CONNECTIONS) == 1
