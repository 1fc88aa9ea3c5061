"""The connection without sockets: what it writes, in how many writes, and when it reads, waits and closes."""

from __future__ import annotations

import itertools
import logging
import re
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend import server
from backend.app import App, Identity
from backend.parameters import filler
from backend.server import HEAD_LIMIT, LINGER, UNREAD_LIMIT, Connection
from backend.shared import Shared
from tests.backend.fake_loop import FakeLoop, FakeTransport

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def get(target: str, *fields: bytes) -> bytes:
    return b"\r\n".join([f"GET {target} HTTP/1.1".encode(), b"Host: x", *fields, b"", b""])


def post(target: str, body: bytes) -> bytes:
    return f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Bench:
    """One connection to one application, on a made-up clock."""

    def __init__(self, *, limit: int | None = None, is_logging: bool = False, is_stopping: bool = False) -> None:
        self.loop = FakeLoop()
        self.app = App(Identity("pod", None, "ns", "node", "backend"), lambda: 0.0)
        self.emptied = 0
        self.shared = Shared(self.app, self.loop, is_logging=is_logging, emptied=self._emptied)
        self.shared.is_stopping = is_stopping
        self.transport, self.connection = self.connect(limit)

    def connect(self, limit: int | None = None) -> tuple[FakeTransport, Connection]:
        transport, connection = FakeTransport(limit), Connection(self.shared)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        return transport, connection

    def _emptied(self) -> None:
        self.emptied += 1

    def receive(self, data: bytes) -> None:
        self.connection.data_received(data)
        self.loop.run()

    @property
    def writes(self) -> list[bytes]:
        return self.transport.writes


def statuses(written: bytes) -> list[int]:
    return [int(number) for number in re.findall(rb"^HTTP/1\.1 ([0-9]{3}) ", written, re.MULTILINE)]


def body_of(written: bytes) -> bytes:
    return written.partition(b"\r\n\r\n")[2]


def test_a_small_reply_is_one_write() -> None:
    bench = Bench()
    bench.receive(GET)
    assert len(bench.writes) == 1
    head, _, body = bench.writes[0].partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
    assert b"\r\nContent-Length: %d" % len(body) in head
    assert re.search(rb"\r\nDate: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", head)
    assert b'"ip": "127.0.0.9"' in body


def test_an_ipv4_client_of_an_ipv6_socket_is_told_its_ipv4_address() -> None:
    bench = Bench()
    transport, connection = FakeTransport(local_address="::ffff:127.0.0.8"), Connection(bench.shared)
    connection.connection_made(transport)
    connection.data_received(GET)
    assert b'"ip": "127.0.0.8"' in transport.written


@pytest.mark.parametrize("target", ["/?size=60k", "/?size=100&chunked=1", "/?status=204", "/livez", "/?size=0"])
def test_whatever_fits_into_a_piece_is_one_write(target: str) -> None:
    bench = Bench()
    bench.receive(get(target))
    assert len(bench.writes) == 1
    assert bench.transport.is_open


def test_a_chunked_reply_is_framed() -> None:
    bench = Bench()
    bench.receive(get("/?size=100&chunked=1"))
    assert b"Transfer-Encoding: chunked" in bench.writes[0]
    assert body_of(bench.writes[0]) == b"64\r\n" + filler(0, 100) + b"\r\n0\r\n\r\n"


def test_an_http10_client_gets_a_chunked_reply_until_close() -> None:
    bench = Bench()
    bench.receive(b"GET /?size=100&chunked=1 HTTP/1.0\r\n\r\n")
    assert body_of(bench.writes[0]) == filler(0, 100)
    assert b"Transfer-Encoding" not in bench.writes[0]
    assert bench.transport.is_half_closed


def test_pipelined_requests_are_answered_in_order() -> None:
    bench = Bench()
    bench.receive(get("/?status=201") + get("/?status=202&delay=1s") + get("/?status=203"))
    assert statuses(bench.transport.written) == [201]
    bench.loop.advance(0.999)
    assert statuses(bench.transport.written) == [201]
    bench.loop.advance(0.001)
    assert statuses(bench.transport.written) == [201, 202, 203]


def test_what_arrives_while_a_reply_is_pending_is_put_aside_and_then_left_unread() -> None:
    bench = Bench()
    bench.receive(get("/?delay=1s"))
    many = GET * (UNREAD_LIMIT // len(GET))
    bench.receive(many)
    assert not bench.transport.is_reading_paused
    bench.receive(GET * 2)
    assert bench.transport.is_reading_paused
    bench.loop.advance(1.0)
    assert not bench.transport.is_reading_paused
    assert len(statuses(bench.transport.written)) == 1 + len(many) // len(GET) + 2


def test_requests_wait_while_the_client_does_not_take_the_replies() -> None:
    bench = Bench(limit=1000)
    bench.receive(GET * 100)
    answered = len(bench.writes)
    assert answered < 10
    bench.transport.take()
    assert answered < len(bench.writes) < 20
    while bench.transport.untaken:
        bench.transport.take()
    assert statuses(bench.transport.written) == [200] * 100


def test_a_large_body_is_written_as_the_client_takes_it() -> None:
    bench = Bench(limit=65_536)
    bench.receive(get("/?size=1m"))
    written = []
    while bench.transport.untaken:
        written.append(bench.transport.untaken)
        bench.transport.take()
        bench.loop.run()
    assert max(written) < 65_536 * 2.1
    assert len(written) >= 8
    body = body_of(bench.transport.written)
    assert len(body) == 1024**2
    assert body == filler(0, 64) * (1024**2 // 64)
    assert bench.transport.is_open


def test_a_large_body_lets_others_have_their_turn() -> None:
    bench = Bench()
    bench.connection.data_received(get("/?size=8m"))
    assert len(bench.transport.written) < 2 * 1024**2
    other, connection = bench.connect()
    connection.data_received(GET)
    assert statuses(other.written) == [200]
    bench.loop.run()
    assert len(body_of(bench.transport.written)) == 8 * 1024**2


def test_head_is_answered_without_body() -> None:
    bench = Bench()
    bench.receive(b"HEAD /?size=1m HTTP/1.1\r\nHost: x\r\n\r\n" + get("/?status=201"))
    assert b"Content-Length: 1048576\r\n" in bench.writes[0]
    assert body_of(bench.writes[0]) == b""
    assert statuses(bench.transport.written) == [200, 201]


def test_drip_sends_at_its_rate() -> None:
    bench = Bench()
    bench.receive(get("/?size=100&drip=100"))
    assert len(body_of(bench.transport.written)) == 5
    bench.loop.advance(0.5)
    assert len(body_of(bench.transport.written)) == 55
    bench.loop.advance(0.45)
    assert body_of(bench.transport.written) == filler(0, 64) + filler(0, 36)


def test_a_slow_drip_is_one_byte_at_a_time() -> None:
    bench = Bench()
    bench.receive(get("/?size=3&drip=2"))
    lengths = [len(body_of(bench.transport.written))]
    for _ in range(3):
        bench.loop.advance(0.5)
        lengths.append(len(body_of(bench.transport.written)))
    assert lengths == [1, 2, 3, 3]


def test_a_fast_drip_is_not_slower_than_asked() -> None:
    bench = Bench()
    bench.receive(get("/?size=10m&drip=10m"))
    bench.loop.advance(1.0)
    assert len(body_of(bench.transport.written)) == 10 * 1024**2


def test_a_drip_goes_on_after_the_client_was_slow() -> None:
    bench = Bench(limit=500)
    bench.receive(get("/?size=2k&drip=10k"))
    bench.loop.advance(10.0)
    assert len(body_of(bench.transport.written)) < 2048
    while bench.transport.untaken:
        bench.transport.take()
        bench.loop.advance(1.0)
    assert len(body_of(bench.transport.written)) == 2048


def test_a_drip_keeps_its_rate_when_the_client_keeps_up_again() -> None:
    bench = Bench(limit=10)
    bench.receive(get("/?size=100&drip=2"))
    bench.transport.take()
    bench.transport.take()
    assert len(body_of(bench.transport.written)) == 1
    bench.loop.advance(0.5)
    assert len(body_of(bench.transport.written)) == 2


def test_close_is_told_and_done() -> None:
    bench = Bench()
    bench.receive(get("/?close=1") + GET)
    assert statuses(bench.transport.written) == [200]
    assert b"Connection: close\r\n" in bench.writes[0]
    assert bench.transport.is_half_closed


def test_a_client_that_says_close_is_closed() -> None:
    bench = Bench()
    bench.receive(get("/", b"Connection: close"))
    assert b"Connection: close\r\n" in bench.writes[0]
    assert bench.transport.is_half_closed


def test_after_a_close_the_rest_is_dropped_until_the_client_closes() -> None:
    bench = Bench()
    bench.receive(get("/?close=1"))
    bench.receive(GET * 10_000)
    assert bench.transport.is_open
    assert not bench.transport.is_reading_paused
    assert len(bench.writes) == 1
    assert bench.connection.eof_received() is False


def test_after_a_close_what_was_left_unread_is_dropped_as_well() -> None:
    bench = Bench()
    bench.receive(get("/?close=1&delay=1s"))
    bench.receive(b"x" * (UNREAD_LIMIT + 1))
    assert bench.transport.is_reading_paused
    bench.loop.advance(1.0)
    assert bench.transport.is_half_closed
    assert not bench.transport.is_reading_paused


def test_after_a_close_the_client_is_not_waited_for_forever() -> None:
    bench = Bench()
    bench.receive(get("/?close=1"))
    bench.loop.advance(LINGER - 0.01)
    assert bench.transport.is_open
    bench.loop.advance(0.01)
    assert not bench.transport.is_open


def assert_reset(transport: FakeTransport) -> None:
    assert transport.is_aborted
    assert transport.options == [(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))]


def test_reset_comes_instead_of_a_reply() -> None:
    bench = Bench()
    bench.receive(get("/?reset=1&delay=1s"))
    assert not bench.transport.is_aborted
    bench.loop.advance(1.0)
    assert_reset(bench.transport)
    assert bench.transport.written == b""


def test_reset_comes_in_the_middle_of_a_body() -> None:
    bench = Bench()
    bench.receive(get("/?reset=1&size=100&chunked=1"))
    assert_reset(bench.transport)
    assert body_of(bench.transport.written) == b"32\r\n" + filler(0, 50) + b"\r\n"


def test_a_client_that_half_closes_is_answered() -> None:
    bench = Bench()
    bench.receive(GET + get("/?delay=1s&status=201"))
    assert bench.connection.eof_received() is True
    bench.loop.advance(1.0)
    assert statuses(bench.transport.written) == [200, 201]
    assert not bench.transport.is_open


def test_a_client_that_leaves_between_requests_is_closed() -> None:
    bench = Bench()
    bench.receive(GET)
    bench.connection.eof_received()
    assert not bench.transport.is_open
    assert len(bench.writes) == 1


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\nHo", post("/", b"12345")[:-1]])
def test_a_client_that_leaves_within_a_request_is_told(data: bytes) -> None:
    bench = Bench()
    bench.receive(data)
    bench.connection.eof_received()
    assert statuses(bench.transport.written) == [400]
    assert not bench.transport.is_open


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * HEAD_LIMIT, 431),
    ],
)
def test_a_bad_request_is_refused_and_closed(data: bytes, status: int) -> None:
    bench = Bench()
    bench.receive(GET + data)
    assert statuses(bench.transport.written) == [200, status]
    assert b"Connection: close\r\n" in bench.writes[-1]
    assert b'{"error": "' in bench.writes[-1]
    assert bench.transport.is_half_closed


def test_a_waiting_client_is_told_to_continue_when_its_head_was_read() -> None:
    bench = Bench()
    head, _, body = post("/echo", b"hello").partition(b"\r\n\r\n")
    bench.receive(head + b"\r\nExpect: 100-continue\r\n\r\n")
    assert bench.transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    bench.receive(body)
    assert statuses(bench.transport.written) == [100, 200]
    assert b'"body": "hello"' in bench.writes[-1]


def test_a_client_that_does_not_wait_is_not_told_to_continue() -> None:
    bench = Bench()
    bench.receive(get("/", b"Expect: 100-continue", b"Content-Length: 0") + GET)
    assert statuses(bench.transport.written)[-2:] == [200, 200]


def test_a_request_that_asks_for_an_upgrade_is_answered_as_any_other() -> None:
    bench = Bench()
    bench.receive(get("/", b"Connection: upgrade", b"Upgrade: websocket") + GET)
    assert statuses(bench.transport.written) == [200, 200]


def test_connect_is_refused_and_the_connection_goes_on() -> None:
    bench = Bench()
    bench.receive(b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n" + GET)
    assert statuses(bench.transport.written) == [405, 200]


def test_echo_tells_the_fields_as_received() -> None:
    bench = Bench()
    bench.receive(get("/echo", b"X-Twice: a", b"x-TWICE: b", b"X-Raw: \xe9"))
    assert b'[["Host", "x"], ["X-Twice", "a"], ["x-TWICE", "b"], ["X-Raw", "\xc3\xa9"]]' in bench.writes[0]


def test_held_requests_are_answered_when_the_fault_is_cleared() -> None:
    bench = Bench()
    bench.receive(post("/fault", b'{"mode": "hang"}'))
    bench.receive(get("/?status=201") + get("/?status=202"))
    bench.loop.advance(1000.0)
    assert statuses(bench.transport.written) == [200]
    _, connection = bench.connect()
    connection.data_received(b"DELETE /fault HTTP/1.1\r\nHost: x\r\n\r\n")
    assert statuses(bench.transport.written) == [200, 201, 202]


def test_held_requests_are_answered_when_the_fault_is_over() -> None:
    bench = Bench()
    bench.receive(post("/fault", b'{"mode": "hang", "for": "5s"}') + GET)
    bench.loop.advance(4.99)
    assert statuses(bench.transport.written) == [200]
    bench.loop.advance(0.01)
    assert statuses(bench.transport.written) == [200, 200]


def test_held_requests_get_the_next_fault() -> None:
    bench = Bench()
    bench.receive(post("/fault", b'{"mode": "hang", "for": "5s"}') + GET)
    _, connection = bench.connect()
    connection.data_received(post("/fault", b'{"mode": "reset"}'))
    assert_reset(bench.transport)


def test_the_time_of_a_fault_that_was_replaced_does_not_matter_any_more() -> None:
    bench = Bench()
    bench.receive(post("/fault", b'{"mode": "hang", "for": "5s"}') + GET)
    other, connection = bench.connect()
    connection.data_received(post("/fault", b'{"mode": "hang"}'))
    bench.loop.advance(10.0)
    connection.data_received(get("/fault"))
    assert b'"hits": 1}' in other.writes[-1]


def test_a_client_that_leaves_a_held_request_is_closed() -> None:
    bench = Bench()
    bench.receive(post("/fault", b'{"mode": "hang"}') + GET)
    assert bench.connection.eof_received() is False
    bench.connection.connection_lost(None)
    assert not bench.shared.held


def test_probes_are_answered_while_others_hang() -> None:
    bench = Bench()
    bench.receive(post("/fault", b'{"mode": "hang"}') + GET)
    transport, connection = bench.connect()
    connection.data_received(get("/livez"))
    assert statuses(transport.written) == [200]


def test_what_a_client_waits_for_is_dropped_when_it_is_gone() -> None:
    bench = Bench()
    bench.receive(get("/?delay=1s"))
    bench.connection.connection_lost(ConnectionResetError())
    bench.loop.advance(2.0)
    assert bench.writes == []
    assert bench.emptied == 1


def test_every_reply_says_close_while_draining() -> None:
    bench = Bench()
    bench.receive(get("/?delay=1s"))
    bench.app.is_draining = True
    bench.loop.advance(1.0)
    assert b"Connection: close\r\n" in bench.writes[0]
    assert bench.transport.is_half_closed


def test_stop_closes_an_idle_connection() -> None:
    bench = Bench()
    bench.receive(GET)
    bench.connection.stop()
    assert not bench.transport.is_open


@pytest.mark.parametrize("begin", [b"", GET[:5]])
def test_stop_gives_a_new_connection_time_for_its_request(begin: bytes) -> None:
    bench = Bench()
    bench.app.is_draining = bench.shared.is_stopping = True
    bench.receive(begin) if begin else None
    bench.connection.stop()
    bench.loop.advance(LINGER - 0.01)
    bench.receive(GET[len(begin) :])
    assert statuses(bench.transport.written) == [200]
    assert bench.transport.is_half_closed


def test_stop_does_not_wait_forever_for_a_new_connection() -> None:
    bench = Bench(is_stopping=True)
    bench.loop.advance(LINGER - 0.01)
    assert bench.transport.is_open
    bench.loop.advance(0.01)
    assert not bench.transport.is_open


def test_stop_lets_a_request_in_flight_finish() -> None:
    bench = Bench()
    bench.receive(post("/?delay=10s", b"12345")[:-1])
    bench.app.is_draining = bench.shared.is_stopping = True
    bench.connection.stop()
    bench.loop.advance(5.0)
    bench.receive(b"5")
    bench.loop.advance(10.0)
    assert statuses(bench.transport.written) == [200]
    assert bench.transport.is_half_closed


def test_stop_closes_behind_a_reply_whose_head_promised_more() -> None:
    bench = Bench()
    bench.receive(get("/?size=100&drip=50"))
    bench.app.is_draining = bench.shared.is_stopping = True
    bench.connection.stop()
    bench.loop.advance(1.0)
    assert bench.transport.is_open
    bench.loop.advance(1.0)
    assert len(body_of(bench.transport.written)) == 100
    assert not bench.transport.is_open


def test_a_request_is_logged_when_its_head_was_read(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(is_logging=True)
    with caplog.at_level(logging.INFO, logger="backend"):
        bench.receive(b"POST /p?q HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nX-Request-Id: i d\x01\xe9\\\r\n\r\n")
        assert caplog.messages == [r"request POST /p?q id=i\x20d\x01\xe9\x5c"]
        bench.receive(b"12345" + GET)
    assert caplog.messages[1:] == ["request GET / id=-"]


def test_nothing_is_logged_unless_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="backend"):
        Bench().receive(GET)
    assert caplog.messages == []


TRANSCRIPT = (
    GET
    + post("/echo", b"hello")
    + b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    + get("/?size=70k&chunked=1")
    + b"HEAD /?size=5 HTTP/1.1\r\nHost: x\r\n\r\n"
    + get("/?delay=1s&status=404")
    + get("/?size=x&close=1")
    + get("/?close=1")
)


def answers_to(pieces: list[bytes], limit: int | None) -> bytes:
    bench = Bench(limit=limit)
    for piece in pieces:
        bench.receive(piece)
    for _ in range(50):
        bench.loop.advance(1.0)
        if bench.transport.untaken:
            bench.transport.take()
    return re.sub(rb"Date: [^\r]*", b"", bench.transport.written)


@given(st.lists(st.integers(0, len(TRANSCRIPT))), st.sampled_from([None, 10, 5000]))
def test_any_cut_of_the_bytes_gives_the_same_answers(cuts: list[int], limit: int | None) -> None:
    places = [0, *sorted(cuts), len(TRANSCRIPT)]
    pieces = [TRANSCRIPT[start:end] for start, end in itertools.pairwise(places) if start < end]
    whole = answers_to([TRANSCRIPT], None)
    assert statuses(whole) == [200, 200, 200, 200, 200, 404, 400, 200]
    assert answers_to(pieces, limit) == whole


def test_h11_is_imported_in_one_module_alone() -> None:
    package = Path(server.__file__).parent
    assert [path.name for path in package.glob("*.py") if "import h11" in path.read_text()] == ["server.py"]
