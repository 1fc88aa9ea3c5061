from __future__ import annotations

import http.client
import shutil
import sys

import pytest

from bench.backend import MANY, USUAL, Behind
from bench.checks import require_every_endpoint
from bench.measure import running
from bench.peers import PEERS, Setting
from bench.peers.nginx import Content, backend_argv
from bench.proc import Cores

needs_programs = pytest.mark.skipif(
    not (shutil.which("nginx") and shutil.which("haproxy")), reason="nginx or haproxy is not installed"
)

CHUNKED = bytes(range(256)) * 256


def content(setting: Setting) -> list[str]:
    return backend_argv(setting, Content(b"hello\n", {}, {"/chunked": CHUNKED}))


def test_many_endpoints_are_as_many_addresses_of_the_loopback() -> None:
    addresses = MANY.addresses(8080)
    assert len(set(addresses)) == len(addresses) == 1000
    assert addresses[0] == "127.1.0.1:8080"
    assert addresses[-1] == "127.1.3.250:8080"
    assert USUAL.addresses(8080) == ("127.0.0.1:8080",)


@needs_programs
@pytest.mark.skipif(sys.platform != "linux", reason="the loopback has one address here")
def test_a_contender_goes_round_all_addresses_of_the_backend() -> None:
    with running([PEERS["haproxy"]], Cores(None, None), behind=Behind(content, endpoints=30)) as (contender,):
        require_every_endpoint("haproxy", contender.port, 30)


@needs_programs
def test_balancers_of_connections_balance() -> None:
    peers = [PEERS["haproxy-tcp"], PEERS["podlb-uvloop-tcp"]]
    with running(peers, Cores(None, None), behind=Behind(content)) as contenders:
        # Each was waited for until it answered as the backend does.
        assert [each.process.usage().rss_bytes > 0 for each in contenders] == [True, True]


@needs_programs
def test_nginx_sends_a_body_in_chunks_and_whole() -> None:
    with running([PEERS["haproxy"]], Cores(None, None), behind=Behind(content)) as (contender,):
        connection = http.client.HTTPConnection("127.0.0.1", contender.port, timeout=5)
        connection.request("GET", "/chunked")
        response = connection.getresponse()
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert response.headers["Content-Length"] is None
        assert response.read() == CHUNKED
        connection.close()
