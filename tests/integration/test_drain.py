"""The end of `python -m lb`: who is still served, who is let go, and that it ends in time with exit code 0."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.fakes import DEADLINE, Client, eventually, request
from tests.integration.conftest import MakeEndpoint
from tests.integration.endpoint import Connection, Endpoint, never, respond_when, response
from tests.integration.harness import Variant
from tests.integration.processes import LoadBalancer

pytestmark = [pytest.mark.any_parser, pytest.mark.timeout(15)]

LONG = "--drain-delay=60"
Start = Callable[..., LoadBalancer]


@pytest.fixture
def start(variant: Variant) -> Iterator[Start]:
    """Start a balancer as a process; at its end it must have said nothing on stderr, and no error anywhere."""
    with ExitStack() as stack:

        def run(endpoint: Endpoint, *flags: str) -> LoadBalancer:
            lb = LoadBalancer(
                f"--backends=127.0.0.1:{endpoint.port}",
                f"--loop={variant.loop}",
                f"--parser={variant.parser}",
                *(() if any(flag.startswith("--max-connections") for flag in flags) else ("--max-connections=100",)),
                *flags,
            )
            stack.enter_context(lb)
            return lb

        yield run


@pytest.fixture
def clients() -> Iterator[Callable[[LoadBalancer], Client]]:
    with ExitStack() as stack:

        def connect(lb: LoadBalancer) -> Client:
            client = lb.client()
            stack.callback(client.close)
            return client

        yield connect


Connect = Callable[[LoadBalancer], Client]


def ended(lb: LoadBalancer, within: float) -> None:
    """Check that it ends within so many seconds, with exit code 0 and nothing amiss."""
    started = time.monotonic()
    assert lb.wait(within + DEADLINE) == 0, (lb.lines, lb.errors)
    assert time.monotonic() - started < within
    assert lb.errors == []
    assert not [line for line in lb.lines if "[ERROR]" in line or "Traceback" in line], lb.lines
    assert lb.lines[-1].endswith("[INFO] stopped")


def test_with_nothing_open_it_ends_at_once(start: Start, endpoint: MakeEndpoint) -> None:
    lb = start(endpoint())
    lb.signal(signal.SIGTERM)
    ended(lb, 0.9)


def test_while_the_delay_lasts_it_serves_but_is_not_ready(
    start: Start, clients: Connect, endpoint: MakeEndpoint
) -> None:
    a = endpoint()
    lb = start(a, LONG)
    assert lb.probe("/readyz") == (200, "ok")
    before = clients(lb)
    assert before.get().get(b"connection") is None
    lb.signal(signal.SIGTERM)
    lb.wait_for("stopping")
    assert lb.probe("/readyz") == (503, "stopping")
    assert lb.probe("/livez") == (200, "ok")
    for client in (before, clients(lb), clients(lb)):
        message = client.get()
        assert (message.status, message.get(b"connection")) == (200, b"close")
        assert client.how_closed() == "fin"
    # A pipeline ends behind its first response.
    client = clients(lb)
    client.send(request("GET", "/1") + request("GET", "/2"))
    assert client.read_response().get(b"connection") == b"close"
    assert client.how_closed() == "fin"
    assert lb.process.poll() is None
    assert [m.target for m in a.requests].count(b"/2") == 0
    lb.signal(signal.SIGTERM)
    ended(lb, 2)


@pytest.mark.one_variant
def test_the_delay_is_as_long_as_configured(start: Start, endpoint: MakeEndpoint) -> None:
    lb = start(endpoint(), "--drain-delay=0.7")
    started = time.monotonic()
    lb.signal(signal.SIGTERM)
    ended(lb, 0.7 + 0.9)
    assert time.monotonic() - started >= 0.65


@pytest.mark.one_variant
def test_sigint_skips_the_delay(start: Start, endpoint: MakeEndpoint) -> None:
    lb = start(endpoint(), LONG)
    lb.signal(signal.SIGINT)
    ended(lb, 0.9)


def test_idle_clients_alone_are_let_go_within_two_seconds(
    start: Start, clients: Connect, endpoint: MakeEndpoint
) -> None:
    lb = start(endpoint())
    idle = [clients(lb) for _ in range(3)]
    for client in idle:
        assert client.get().status == 200
    silent = clients(lb)
    lb.signal(signal.SIGTERM)
    ended(lb, 2)
    for client in (*idle, silent):
        assert client.how_closed() == "fin"


@pytest.mark.one_variant
def test_an_idle_connection_is_answered_one_last_request(
    start: Start, clients: Connect, endpoint: MakeEndpoint
) -> None:
    a = endpoint()
    lb = start(a)
    client = clients(lb)
    assert client.get().status == 200
    lb.signal(signal.SIGTERM)
    lb.wait_for("draining: 1 connections")
    with pytest.raises(ConnectionRefusedError):
        Client(lb.port)
    message = client.get("/last")
    assert (message.status, message.get(b"connection")) == (200, b"close")
    assert client.how_closed() == "fin"
    client.close()
    ended(lb, 0.9)
    assert [m.target for m in a.requests] == [b"/", b"/last"]


@pytest.mark.one_variant
def test_drain_timeout_bounds_the_last_request(start: Start, clients: Connect, endpoint: MakeEndpoint) -> None:
    lb = start(endpoint(), "--drain-timeout=0.2")
    client = clients(lb)
    assert client.get().status == 200
    lb.signal(signal.SIGTERM)
    ended(lb, 0.9)
    assert client.how_closed() in ("fin", "reset")


@pytest.mark.parametrize("what", ["response", "upload"])
def test_what_is_in_flight_is_finished(what: str, start: Start, clients: Connect, endpoint: MakeEndpoint) -> None:
    gate = threading.Event()
    a = endpoint(respond_when(gate, response()))
    lb = start(a)
    client = clients(lb)
    if what == "upload":
        client.send(request("POST", "/", "Content-Length: 10") + b"abc")
    else:
        client.send(request())
        a.wait_for_requests(1)
    a.wait_for_heads(1)
    lb.signal(signal.SIGTERM)
    lb.wait_for("draining: 1 connections")
    with pytest.raises(ConnectionRefusedError):
        Client(lb.port)
    if what == "upload":
        client.send(b"defghij")
    gate.set()
    message = client.read_response()
    assert (message.status, message.get(b"connection")) == (200, b"close")
    assert client.how_closed() == "fin"
    client.close()
    ended(lb, 0.9)
    assert len(a.requests) == 1


@pytest.mark.one_variant
def test_a_response_that_has_begun_is_finished(start: Start, clients: Connect, endpoint: MakeEndpoint) -> None:
    gate = threading.Event()

    def answer(connection: Connection, message: object) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")
        assert gate.wait(DEADLINE)
        connection.send(b"56789")

    lb = start(endpoint(answer))
    client = clients(lb)
    client.send(request())
    client.stream.take_through(b"01234")
    lb.signal(signal.SIGTERM)
    lb.wait_for("draining: 1 connections")
    gate.set()
    # It was told that its connection goes on, before anybody knew better: so it idles, for a moment.
    assert client.stream.take_to_end() == b"56789"
    ended(lb, 1.9)


@pytest.mark.one_variant
def test_what_takes_longer_than_drain_timeout_is_cut(start: Start, clients: Connect, endpoint: MakeEndpoint) -> None:
    a = endpoint(never)
    lb = start(a, "--drain-timeout=0.4")
    client = clients(lb)
    client.send(request())
    a.wait_for_requests(1)
    started = time.monotonic()
    lb.signal(signal.SIGTERM)
    ended(lb, 1.4)
    assert time.monotonic() - started >= 0.35
    assert client.how_closed() == "reset"
    assert a.wait_for_end(0) in ("fin", "reset")


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_now(
    second: signal.Signals, start: Start, clients: Connect, endpoint: MakeEndpoint
) -> None:
    a = endpoint(never)
    lb = start(a)
    client = clients(lb)
    client.send(request())
    a.wait_for_requests(1)
    lb.signal(signal.SIGTERM)
    lb.wait_for("draining: 1 connections")
    lb.signal(second)
    ended(lb, 0.9)
    assert client.how_closed() == "reset"
    assert a.wait_for_end(0) in ("fin", "reset")


def test_clients_in_the_queue_are_served(start: Start, clients: Connect, endpoint: MakeEndpoint) -> None:
    """The process stands still while they connect, and the signal is there when it goes on."""
    a = endpoint()
    lb = start(a)
    os.kill(lb.pid, signal.SIGSTOP)
    waiting = [clients(lb) for _ in range(10)]
    for client in waiting[:8]:
        client.send(request())
    lb.signal(signal.SIGTERM)
    os.kill(lb.pid, signal.SIGCONT)
    for client in waiting[:8]:
        message = client.read_response()
        assert (message.status, message.get(b"connection")) == (200, b"close")
        client.close()
    # The others say something only now: they were accepted, so they are given the moment for one request.
    lb.wait_for("draining")
    for client in waiting[8:]:
        assert client.get().status == 200
        client.close()
    ended(lb, 2)
    assert len(a.requests) == 10


@pytest.mark.one_variant
def test_clients_held_back_by_max_connections_are_served(
    start: Start, clients: Connect, endpoint: MakeEndpoint
) -> None:
    goes_on = threading.Event()
    a = endpoint(respond_when(goes_on, response()))
    lb = start(a, "--max-connections=1")
    first = clients(lb)
    first.send(request())
    a.wait_for_requests(1)
    waiting = [clients(lb) for _ in range(5)]
    for client in waiting:
        client.send(request())
    lb.wait_for("maxConnections")
    lb.signal(signal.SIGTERM)
    lb.wait_for("draining: 6 connections")
    goes_on.set()
    assert first.read_response().status == 200
    for client in waiting:
        message = client.read_response()
        assert (message.status, message.get(b"connection")) == (200, b"close")
        client.close()
    ended(lb, 2)
    assert len(a.requests) == 6


@pytest.mark.one_variant
def test_requests_that_wait_for_an_endpoint_wait_on(start: Start, clients: Connect, endpoint: MakeEndpoint) -> None:
    a = endpoint(is_up=False)
    lb = start(a, "--endpoint-wait=4")
    client = clients(lb)
    client.send(request())
    lb.wait_for("set aside")
    lb.signal(signal.SIGTERM)
    lb.wait_for("draining: 1 connections")
    a.up()
    message = client.read_response()
    assert (message.status, message.get(b"connection")) == (200, b"close")
    client.close()
    ended(lb, 0.9)


@pytest.mark.one_variant
def test_sighup_with_a_fixed_list_is_harmless(start: Start, clients: Connect, endpoint: MakeEndpoint) -> None:
    lb = start(endpoint())
    client = clients(lb)
    assert client.get().status == 200
    for _ in range(3):
        lb.signal(signal.SIGHUP)
    lb.wait_for("nothing to read again")
    assert client.get().status == 200
    client.close()
    eventually(lambda: len([line for line in lb.lines if "nothing to read again" in line]) >= 1)
    lb.signal(signal.SIGTERM)
    ended(lb, 0.9)


@pytest.mark.one_variant
def test_a_signal_while_the_admin_port_is_asked(start: Start, endpoint: MakeEndpoint) -> None:
    """An open connection to the admin or the probe port holds nothing up."""
    lb = start(endpoint())
    admin, probe = Client(lb.admin_port), Client(lb.probe_port)
    try:
        assert admin.get("/livez").status == 421, "Host names no address of this machine"
        assert probe.get("/readyz").status == 200
        lb.signal(signal.SIGTERM)
        ended(lb, 0.9)
    finally:
        admin.close()
        probe.close()


@pytest.mark.one_variant
def test_idle_clients_that_do_not_close(start: Start, clients: Connect, endpoint: MakeEndpoint) -> None:
    lb = start(endpoint())
    idle, half = clients(lb), clients(lb)
    assert idle.get().status == 200
    half.send(request()[:-2])
    lb.signal(signal.SIGTERM)
    lb.wait_for("draining: 2 connections")
    assert idle.get().status == 200  # the last request; then it reads the FIN and does nothing
    assert idle.how_closed() == "fin"
    ended(lb, 2)
