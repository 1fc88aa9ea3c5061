"""Every time-out at its default, on injected time: not before it has passed, and at once when it has."""

from __future__ import annotations

import json

import pytest

from lb.config import Config
from lb.sockets import unsent_bytes
from tests.fakes import Client, Message, chunked, eventually, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection, Endpoint, never, respond, response
from tests.integration.harness import Balancer
from tests.integration.tunnels import ASK, SWITCH, ManualClock

pytestmark = pytest.mark.any_parser

DEFAULT = Config()
# How much later than it has passed a time-out may be noticed.
TICK = 0.11


def reason(message: Message) -> tuple[int, object]:
    return message.status, json.loads(message.body)["reason"]


class Times:
    """A balancer on a clock in the test's hands."""

    def __init__(self, make: MakeBalancer, *endpoints: Endpoint, **settings: object) -> None:
        self.clock = ManualClock()
        self.lb: Balancer = make(*endpoints, clock=self.clock, **settings)

    def send(self, client: Client, data: bytes) -> None:
        """Send, and wait until it was read."""
        before = self._read()
        client.send(data)
        eventually(lambda: self._read() >= before + len(data), "what was sent")

    def _read(self) -> int:
        return sum(len(c._inbox.data) for c in self.lb.server.proxy.connections)

    def unsent(self) -> int:
        """Return how many bytes the peers of the only tunnel have not acknowledged."""
        (tunnel,) = self.lb.server.proxy.connections
        return sum(unsent_bytes(side.transport) for side in (tunnel._client, tunnel._endpoint))  # type: ignore[attr-defined]

    def connect(self) -> Client:
        """Return a client whose connection was accepted."""
        before = len(self.lb.server.proxy.connections)
        client = self.lb.client()
        eventually(lambda: len(self.lb.server.proxy.connections) == before + 1, "the accept")
        return client

    def slowly(self, seconds: float) -> None:
        """Let `seconds` pass in small steps: who looks now and then looks in time."""
        for _ in range(round(seconds * 10)):
            self.clock.pass_(self.lb, 0.1)

    def until(self, seconds: float, client: Client, *, step: float = 1.0) -> None:
        """Let nearly `seconds` pass, during which nothing is said, and then the rest."""
        end = self.clock.now + seconds
        while self.clock.now + step < end - TICK:
            self.clock.pass_(self.lb, step)
        self.clock.pass_(self.lb, end - TICK - self.clock.now)
        assert client.is_silent(), "too soon"
        self.clock.pass_(self.lb, 2 * TICK)


HEAD = request()[:-2]


def test_a_head_that_drips_from_accept_on(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    times = Times(balancer, endpoint())
    client = times.connect()
    for at in range(10):
        assert client.is_silent()
        times.send(client, HEAD[at : at + 1])
        times.clock.pass_(times.lb, DEFAULT.request_head_timeout / 10 - 0.01)
    assert client.is_silent()
    times.clock.pass_(times.lb, 2 * TICK)
    assert reason(client.read_response()) == (408, "request_timeout")
    assert client.how_closed() == "fin"


def test_its_first_byte_does_not_begin_the_time_anew(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    times = Times(balancer, endpoint())
    client = times.connect()
    times.clock.pass_(times.lb, 9.0)
    times.send(client, HEAD)
    times.until(DEFAULT.request_head_timeout - 9.0, client, step=0.1)
    assert client.read_response().status == 408


def test_a_later_head_has_its_time_from_its_first_byte(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    times = Times(balancer, endpoint())
    client = times.connect()
    assert client.get().status == 200
    times.clock.pass_(times.lb, 50.0)
    times.send(client, HEAD[:1])
    times.clock.pass_(times.lb, 5.0)
    times.send(client, HEAD[1:])
    times.until(DEFAULT.request_head_timeout - 5.0, client)
    assert reason(client.read_response()) == (408, "request_timeout")


def test_one_that_sends_nothing_is_closed_without_a_reply(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    times = Times(balancer, endpoint())
    client = times.connect()
    times.until(DEFAULT.request_head_timeout, client)
    assert client.how_closed() == "fin"
    assert times.lb.ends() == {}


def test_one_that_idles_is_closed_without_a_reply(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    times = Times(balancer, endpoint())
    client = times.connect()
    for _ in range(2):
        assert client.get().status == 200
        times.clock.pass_(times.lb, 60.0)
    assert client.get().status == 200
    times.until(DEFAULT.idle_timeout, client)
    assert client.how_closed() == "fin"
    assert times.lb.ends() == {"ok": 3}


def test_an_endpoint_that_does_not_answer(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint(never)
    times = Times(balancer, a)
    client = times.connect()
    client.send(request())
    a.wait_for_requests(1)
    times.until(DEFAULT.response_timeout, client)
    assert reason(client.read_response()) == (504, "response_timeout")
    assert a.wait_for_end(0) == "reset"


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_request_body_without_progress(framing: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """It is noticed up to a quarter late; another quarter where an acknowledgement, in real time, is late too."""
    seen: list[int] = []

    def script(connection: Connection) -> None:
        if connection.read_head() is not None:
            while connection.stream.fill():
                seen.append(len(connection.stream.buffer))
            connection.peer_end = "fin"

    a = endpoint(script=script)
    times = Times(balancer, a)
    client = times.connect()
    if framing == "length":
        client.send(request("POST", "/", "Content-Length: 10") + b"abc")
    else:
        client.send(request("POST", "/", "Transfer-Encoding: chunked") + chunked(b"abc")[:-5])
    eventually(lambda: seen or a.heads, "the beginning")
    for _ in range(3):
        times.clock.pass_(times.lb, 50.0)
        before = len(seen)
        client.send(b"x" if framing == "length" else b"1\r\nx\r\n")
        eventually(lambda: len(seen) > before, "the next piece")  # noqa: B023
        assert client.is_silent(), "it makes progress"
    times.slowly(DEFAULT.body_idle_timeout - 1)
    assert client.is_silent()
    times.slowly(DEFAULT.body_idle_timeout / 2 + 2)
    assert reason(client.read_response()) == (408, "body_timeout")
    assert a.requests == []


def test_a_response_body_without_progress(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    def answer(connection: Connection, message: Message) -> None:
        connection.send(response(b"0123456789")[:-5])
        never(connection, message)

    a = endpoint(answer)
    times = Times(balancer, a)
    client = times.connect()
    client.send(request())
    assert client.stream.take_through(b"01234").endswith(b"01234")
    times.slowly(DEFAULT.body_idle_timeout - 1)
    assert client.is_silent()
    times.slowly(DEFAULT.body_idle_timeout / 2 + 2)
    assert client.how_closed() == "reset"
    assert times.lb.ends() == {"body_timeout": 1}


def test_idle_connections_to_an_endpoint(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    times = Times(balancer, a, upstream_idle_timeout=DEFAULT.upstream_idle_timeout)
    client = times.connect()
    for seconds, connections in ((0.0, 1), (3.9, 1), (3.9, 1), (4.1, 2)):
        times.clock.pass_(times.lb, seconds)
        assert client.get().status == 200
        assert len(a.connections) == connections


def test_a_request_that_waits_for_an_endpoint(balancer: MakeBalancer) -> None:
    times = Times(balancer)
    client = times.connect()
    client.send(request())
    times.lb.wait_for_exchanges(1)
    eventually(lambda: len(times.lb.service.waiting) == 1, "its waiting")
    times.until(DEFAULT.endpoint_wait, client, step=0.5)
    message = client.read_response()
    assert reason(message) == (503, "no_endpoint")
    assert message.get(b"retry-after") == b"1"


def test_a_tunnel_that_idles(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    def switch(connection: Connection) -> None:
        if connection.read_head() is not None:
            connection.send(SWITCH)
            while connection.stream.fill():
                connection.send(connection.stream.buffer)
                connection.stream.buffer = b""

    a = endpoint(script=switch)
    times = Times(balancer, a)
    client = times.connect()
    client.send(request("GET", "/", *ASK))
    client.stream.take_through(b"\r\n\r\n")
    for _ in range(2):
        times.clock.pass_(times.lb, DEFAULT.tunnel_idle_timeout - 1)
        client.send(b"echo")
        assert client.stream.take(4) == b"echo"
    # The kernel acknowledges late, on a clock of its own.
    eventually(lambda: times.lb.call(times.unsent) == 0, "the last acknowledgement")
    times.until(DEFAULT.tunnel_idle_timeout, client, step=600.0)
    assert client.how_closed() == "reset"
    assert a.wait_for_end(0) == "reset"
    assert times.lb.ends() == {"tunnel_idle": 1}


def test_many_heads_end_together(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    times = Times(balancer, endpoint(default=respond(response())))
    clients = [times.connect() for _ in range(20)]
    for client in clients:
        times.send(client, HEAD)
    times.clock.pass_(times.lb, DEFAULT.request_head_timeout + TICK)
    for client in clients:
        assert client.read_response().status == 408
    assert times.lb.ends() == {"request_timeout": 20}
