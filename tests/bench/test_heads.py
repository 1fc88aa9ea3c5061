"""How many heads were remembered, from two pages of metrics."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from bench.heads import Heads, Known, fetch, known, parse
from bench.proc import BenchError, free_ports

PAGE = """\
# TYPE podlb_exchanges_total counter
podlb_exchanges_total 1000.0
podlb_exchanges_open 3.0
podlb_request_heads_read_total 10.0
podlb_response_heads_read_total 2.5e+02
"""


def test_the_counters_are_found() -> None:
    assert parse(PAGE) == Heads(1000, 10, 250)


def test_a_page_without_them_is_told_of() -> None:
    with pytest.raises(BenchError, match="no counter podlb_request_heads_read_total"):
        parse("podlb_exchanges_total 1\n")


@pytest.mark.parametrize(
    ("after", "share"),
    [
        (Heads(1100, 10, 250), Known(1.0, 1.0)),
        (Heads(1100, 110, 250), Known(0.0, 1.0)),
        (Heads(1100, 35, 275), Known(0.75, 0.75)),
        # Interim responses have heads as well.
        (Heads(1100, 10, 400), Known(1.0, 0.0)),
        (Heads(1000, 10, 250), None),
    ],
)
def test_what_is_remembered_is_a_share_of_the_exchanges(after: Heads, share: Known | None) -> None:
    assert known(Heads(1000, 10, 250), after) == share


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(PAGE.encode() if self.path == "/metrics" else b"")

    def log_message(self, *_: object) -> None:
        """Quietly."""


@pytest.fixture
def admin_port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Metrics)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_they_are_asked_of_the_admin_port(admin_port: int) -> None:
    assert fetch(admin_port) == Heads(1000, 10, 250)


def test_nobody_there_is_an_error_with_the_port() -> None:
    (port,) = free_ports(1)
    with pytest.raises(BenchError, match=f"admin port {port} gave no metrics"):
        fetch(port)
