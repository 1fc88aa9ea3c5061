"""Endpoints that go without a word, in the middle of anything; and those that only take their time."""

from __future__ import annotations

import array
import fcntl
import socket
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lb import metrics
from tests.fakes import DEADLINE, Client, Message, TruncatedError, chunked, eventually, request, wait_for_standstill
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection, Endpoint, never, respond, respond_when, response
from tests.integration.harness import Balancer
from tests.integration.long_bodies import digest_of, read_digest, send_body
from tests.integration.namespace import Namespace
from tests.integration.tunnels import MakeTunnels, Pump, read_all

pytestmark = [pytest.mark.slow, pytest.mark.timeout(30)]

NOTICED = 1.5
"""Within so many seconds a request on a connection to a silent endpoint is sent elsewhere."""
STILL = 2.0
WARNING = "is set aside for 1 s: it acknowledges nothing any more"


@pytest.fixture(scope="module")
def _namespace() -> Iterator[Namespace]:
    if not Namespace.is_possible():
        pytest.skip(Namespace.WHY_NOT)
    namespace = Namespace()
    yield namespace
    namespace.stop()


@pytest.fixture
def namespace(_namespace: Namespace) -> Iterator[Namespace]:
    yield _namespace
    _namespace.heal()


def _unacknowledged(sock: socket.socket) -> int:
    """Return how many bytes were sent and not acknowledged (tcp(7), SIOCOUTQ)."""
    answer = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, answer)
    return answer[0]


class Pair:
    """A balancer over an endpoint in a namespace of its own and one here, with idle connections to both."""

    def __init__(self, namespace: Namespace, balancer: MakeBalancer, endpoint: MakeEndpoint, pooled: int = 4) -> None:
        self.namespace = namespace
        self.far: Endpoint = endpoint(name="far", bind=namespace.bind)
        self.near: Endpoint = endpoint(name="near")
        self.lb: Balancer = balancer(self.far, self.near)
        # All of them are open at once: none is answered before the last has arrived.
        arrived = threading.Event()
        usual = [self.far.default, self.near.default]
        for there in (self.far, self.near):
            there.default = respond_when(arrived, response(there.name.encode()))
        self.clients = [self.lb.client(seconds=4 * DEADLINE) for _ in range(2 * pooled)]
        for client in self.clients:
            client.send(request())
        for there in (self.far, self.near):
            there.wait_for_requests(pooled)
        arrived.set()
        for client in self.clients:
            assert client.read_response().status == 200
        self.far.default, self.near.default = usual
        assert self.lb.idle(self.far.value) == self.lb.idle(self.near.value) == pooled
        assert len(self.far.requests) == len(self.near.requests) == pooled

    def goes_silent(self) -> None:
        """Let the far one hear nothing any more, when it has nothing more to say.

        (What it sends again since no acknowledgement comes is a sign of life.)
        """
        sockets = [connection.socket for connection in self.far.connections]
        eventually(lambda: not any(map(_unacknowledged, sockets)), "the acknowledgement of all that it sent")
        self.namespace.drop()

    @property
    def warnings(self) -> list[str]:
        return [text for text in self.lb.warnings if self.far.value.authority in text]

    def check_noticed(self) -> None:
        """Was the far one told of once, and is it remembered?"""
        assert self.namespace.dropped() > 0
        assert self.warnings == [f"endpoint {self.far.value.authority} {WARNING}"]
        assert self.lb.state(self.far.value)[0] == "set aside"
        assert self.lb.idle(self.far.value) == 0
        assert self.lb.endpoint_counter(self.far.value, metrics.SET_ASIDES) == 1


@pytest.fixture
def pair(namespace: Namespace, balancer: MakeBalancer, endpoint: MakeEndpoint) -> Pair:
    return Pair(namespace, balancer, endpoint)


class TestSilent:
    def test_gets_on_pooled_connections_are_answered_by_another(self, pair: Pair) -> None:
        pair.goes_silent()
        sent = time.monotonic()
        for client in pair.clients:
            client.send(request())
        found = [client.read_response() for client in pair.clients]
        assert time.monotonic() - sent < NOTICED
        assert [(message.status, message.body) for message in found] == [(200, b"near")] * len(pair.clients)
        assert len(pair.far.requests) == 4, "those of before"
        pair.check_noticed()
        # Nobody waits for it again.
        sent = time.monotonic()
        for client in pair.clients:
            assert client.get().body == b"near"
        assert time.monotonic() - sent < 0.5
        assert pair.lb.ends() == {"ok": 3 * len(pair.clients)}

    def test_so_are_puts_with_a_short_body_of_unknown_length(self, pair: Pair) -> None:
        pair.goes_silent()
        sent = time.monotonic()
        for client in pair.clients:
            client.send(request("PUT", "/", "Transfer-Encoding: chunked") + chunked(b"x" * 20))
        found = [client.read_response("PUT") for client in pair.clients]
        assert time.monotonic() - sent < NOTICED
        assert [(message.status, message.body) for message in found] == [(200, b"near")] * len(pair.clients)
        pair.check_noticed()

    def test_a_post_is_answered_502_as_soon(self, pair: Pair) -> None:
        pair.goes_silent()
        sent = time.monotonic()
        for client in pair.clients:
            client.send(request("POST", body=b"x" * 1000))
        found = sorted(client.read_response("POST").status for client in pair.clients)
        assert time.monotonic() - sent < NOTICED
        assert found == [200] * 4 + [502] * 4
        assert [len(pair.far.requests), len(pair.near.requests)] == [4, 8], "none was delivered twice"
        pair.check_noticed()

    def test_it_is_noticed_while_nothing_is_asked(self, pair: Pair) -> None:
        pair.goes_silent()
        eventually(lambda: pair.lb.idle(pair.far.value) == 0, "the end of the idle connections", seconds=2 * NOTICED)
        pair.check_noticed()
        sent = time.monotonic()
        assert all(client.get().body == b"near" for client in pair.clients)
        assert time.monotonic() - sent < 0.5

    def test_while_an_answer_is_awaited(self, pair: Pair) -> None:
        pair.far.default = never
        for client in pair.clients:
            client.send(request())
        pair.far.wait_for_requests(8)
        pair.goes_silent()
        began = time.monotonic()
        assert [client.read_response().body for client in pair.clients] == [b"near"] * len(pair.clients)
        # A probe a second: the first is not answered, and the second finds that out.
        assert time.monotonic() - began < 1.0 + NOTICED
        pair.check_noticed()

    def test_in_the_middle_of_an_answer(self, pair: Pair) -> None:
        pair.far.default = respond(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        cut = []
        for client in pair.clients:
            client.send(request())
        pair.far.wait_for_requests(8)
        for client in pair.clients:
            client.stream.take_through(b"\r\n\r\n")
        pair.goes_silent()
        began = time.monotonic()
        for client in pair.clients:
            rest = client.stream.take(4)
            if rest == b"half":
                # What can't be completed is seen to be cut.
                with pytest.raises((TruncatedError, ConnectionResetError)):
                    client.stream.take(6)
                cut.append(client)
            else:
                assert rest == b"near"
        assert len(cut) == 4
        assert time.monotonic() - began < 1.0 + NOTICED
        pair.check_noticed()

    def test_it_is_back_when_it_answers_again(self, pair: Pair) -> None:
        pair.goes_silent()
        for client in pair.clients:
            client.send(request())
        assert {client.read_response().body for client in pair.clients} == {b"near"}
        pair.check_noticed()
        pair.namespace.heal()
        client = pair.clients[0]
        eventually(lambda: client.get().body == b"far", "its return")
        assert pair.lb.state(pair.far.value) == ("available", 0.0)
        assert {client.get().body for _ in range(4)} == {b"near", b"far"}

    def test_the_last_one_leaves_503(
        self, namespace: Namespace, balancer: MakeBalancer, endpoint: MakeEndpoint
    ) -> None:
        far = endpoint(name="far", bind=namespace.bind)
        lb = balancer(far, endpoint_wait=0.2)
        client = lb.client()
        assert client.get().body == b"far"
        namespace.drop()
        sent = time.monotonic()
        message = client.get()
        assert message.status == 503
        assert message.get(b"retry-after") is not None
        # One on the pooled connection, then a connect, each as long as connectTimeout; then endpointWait.
        assert time.monotonic() - sent < 2 * NOTICED
        assert namespace.dropped() > 0


# Where the kernel is asked to notice silence it takes a peer that keeps its window at zero for silent, too.


def zero_windows(port: int) -> int:
    """Return how many sockets ask a peer at that port of 127.0.0.1 for its window (proc_net_tcp: tr is 4)."""
    count = 0
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = row.split()
        count += fields[2] == f"0100007F:{port:04X}" and fields[5].startswith("04:")
    return count


def stand_still(port: int) -> None:
    """Return when a peer at that port has had its window at zero, but for moments, for `STILL` seconds."""
    eventually(lambda: zero_windows(port), "a window of zero")
    since = time.monotonic()
    eventually(lambda: time.monotonic() - since >= STILL, "the time")
    # (The kernel opens it for a moment when it packs what it holds.)
    eventually(lambda: zero_windows(port), "a window of zero after that")


linux = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells of windows of zero")
UPLOAD = 8 << 20


class Reader:
    """An endpoint's script that reads a request head and then nothing, until it is told to."""

    def __init__(self, *, chunked: bool) -> None:
        self.goes_on = threading.Event()
        self.digest = b""
        self._chunked = chunked

    def __call__(self, connection: Connection) -> None:
        for _ in range(2):
            head = connection.read_head()
            if head is None:
                return
            self._read(connection, head)
            connection.send(response(b"all of it"))

    def _read(self, connection: Connection, head: Message) -> None:
        if head.method == b"GET":
            return
        assert self.goes_on.wait(2 * DEADLINE)
        if self._chunked:
            connection.read_body(head)
            assert len(head.body) == UPLOAD
        else:
            self.digest = read_digest(connection.stream, UPLOAD)


@linux
class TestZeroWindow:
    @pytest.mark.parametrize("coding", ["length", "chunked"])
    def test_an_upload_that_the_endpoint_holds_up_is_not_cut(
        self, coding: str, balancer: MakeBalancer, endpoint: MakeEndpoint
    ) -> None:
        reader = Reader(chunked=coding == "chunked")
        there = endpoint(script=reader, receive_buffer=16384)
        lb = balancer(there)
        client = lb.client(seconds=4 * DEADLINE)
        field = "Transfer-Encoding: chunked" if coding == "chunked" else f"Content-Length: {UPLOAD}"
        client.send(request("POST", "/", field))
        sender = threading.Thread(target=self._send, args=(client, coding), daemon=True)
        sender.start()
        stand_still(there.port)
        reader.goes_on.set()
        message = client.read_response("POST")
        sender.join(DEADLINE)
        assert (message.status, message.body) == (200, b"all of it")
        if coding == "length":
            assert reader.digest == digest_of(UPLOAD)
        assert lb.warnings == []
        assert lb.ends() == {"ok": 1}
        # Back in the pool it is expected to acknowledge again.
        (idle,) = lb.service.pool._idle[there.value.key]
        assert idle.expects_acks
        sock = idle.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 600
        assert client.get().status == 200
        assert len(there.connections) == 1

    @staticmethod
    def _send(client: Client, coding: str) -> None:
        if coding == "length":
            send_body(client.socket, UPLOAD)
            return
        for _ in range(UPLOAD // 65536):
            client.send(b"10000\r\n" + bytes(65536) + b"\r\n")
        client.send(b"0\r\n\r\n")

    def test_a_tunnel_whose_reader_stands_still_is_not_cut(self, tunnels: MakeTunnels) -> None:
        tunnel = tunnels(receive_buffer=16384)
        client, peer = tunnel.open()
        pump = Pump(client, UPLOAD, fin=True)
        stand_still(tunnel.port.value.port)
        assert read_all(peer) == digest_of(UPLOAD)
        pump.join()
        peer.send(b"and the other way")
        peer.fin()
        assert client.stream.take_to_end() == b"and the other way"
        assert tunnel.lb.warnings == []

    def test_what_stands_still_is_a_window_of_zero(self, tunnels: MakeTunnels) -> None:
        """Would the kernel cut it? Asked for acknowledgements, it does: the tests above are about something."""
        tunnel = tunnels(receive_buffer=16384)
        client, _peer = tunnel.open()
        # More than all buffers hold.
        pump = Pump(client, 8 * UPLOAD)
        wait_for_standstill(lambda: zero_windows(tunnel.port.value.port))
        endpoint_side = tunnel._side("endpoint")
        sock = endpoint_side.transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000)
        # Whoever sends is told. (Not whoever reads as well: of two calls on one socket the kernel tells the first.)
        pump.join()
        assert not pump.is_done
        assert tunnel.lb.ends() == {"reset_in_body": 1}
