"""The life of the process: what a signal does to clients that are idle, in flight, new, or waiting to be accepted."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import time

import pytest

from backend.app import App, Identity
from backend.config import Config
from backend.process import Process
from tests.backend.demo_server import DEADLINE, DemoServer, eventually, read_to_end

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def is_refused(server: DemoServer) -> bool:
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        return False
    return False


def read_reply(client: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"}\n"):
        data = client.recv(65536)
        assert data, f"closed after {received!r}"
        received += data
    return received


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_without_a_delay_an_idle_server_ends_at_once(number: signal.Signals) -> None:
    with DemoServer() as server, server.connect() as idle:
        idle.sendall(GET)
        assert b"Connection: close" not in read_reply(idle)
        start = time.monotonic()
        server.send_signal(number)
        assert idle.recv(1) == b""
        assert server.wait() == 0
        assert time.monotonic() - start < 3
        assert "[ERROR]" not in server.read_rest()


def test_during_the_delay_it_serves_and_is_not_ready() -> None:
    with DemoServer("--drain-delay", "60") as server, server.connect() as idle:
        idle.sendall(GET)
        assert b"Connection: close" not in read_reply(idle)
        server.send_signal(signal.SIGTERM)
        assert server.get("/readyz")[0] == 503
        assert server.get("/livez")[0] == 200
        status, fields, _ = server.get("/")
        assert (status, fields["Connection"]) == (200, "close")
        idle.sendall(GET)
        answer = read_to_end(idle)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        idle.close()
        assert b"\r\nConnection: close\r\n" in answer
        server.process.send_signal(signal.SIGINT)
        assert server.wait() == 0


def test_it_ends_when_the_delay_is_over() -> None:
    with DemoServer("--drain-delay", "0.3") as server:
        start = time.monotonic()
        server.send_signal(signal.SIGTERM)
        assert server.get("/readyz")[0] == 503
        assert server.wait() == 0
        assert time.monotonic() - start >= 0.3


def test_what_is_in_flight_is_finished() -> None:
    with DemoServer() as server, server.connect() as waiting, server.connect() as uploading:
        waiting.sendall(b"GET /?delay=400ms HTTP/1.1\r\nHost: x\r\n\r\n")
        uploading.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12")
        server.get("/livez")  # what was sent before has been read by now
        server.send_signal(signal.SIGTERM)
        eventually(lambda: is_refused(server))
        uploading.sendall(b"345")
        for client, text in ((uploading, b'"body": "12345"'), (waiting, b'"requests": ')):
            answer = read_to_end(client)
            client.close()
            assert b"\r\nConnection: close\r\n" in answer
            assert text in answer
        assert server.wait() == 0


def test_a_long_reply_is_finished_and_then_closed() -> None:
    with DemoServer() as server, server.connect() as client:
        client.sendall(b"GET /?size=32m HTTP/1.1\r\nHost: x\r\n\r\n")
        received = len(client.recv(1000))
        server.send_signal(signal.SIGTERM)
        while data := client.recv(1024 * 1024):
            received += len(data)
        assert received > 32 * 1024**2
        assert server.wait() == 0


def test_who_waits_to_be_accepted_is_served() -> None:
    with DemoServer() as server:
        server.process.send_signal(signal.SIGSTOP)
        clients = [server.connect() for _ in range(50)]
        try:
            for client in clients[:40]:
                client.sendall(GET)
            server.process.send_signal(signal.SIGTERM)
            server.process.send_signal(signal.SIGCONT)
            assert "SIGTERM" in server.read_line()
            for client in clients[40:]:
                client.sendall(GET)
            answers = [read_to_end(client) for client in clients]
        finally:
            for client in clients:
                client.close()
        assert [answer[:15] for answer in answers] == [b"HTTP/1.1 200 OK"] * 50
        assert all(b"\r\nConnection: close\r\n" in answer for answer in answers)
        assert server.wait() == 0


async def start() -> tuple[Process, asyncio.Task[int]]:
    process = Process(Config(host="127.0.0.1", port=0), App(Identity("p", None, "ns", "n", "s"), lambda: 0.0))
    running = asyncio.create_task(process.run())
    await asyncio.sleep(0)
    return process, running


@pytest.mark.asyncio
async def test_who_came_since_the_loop_looked_is_served() -> None:
    process, running = await start()
    clients = [socket.create_connection(("127.0.0.1", process.port), DEADLINE) for _ in range(20)]
    for client in clients:
        client.sendall(GET)
    process.stop()

    def read_all() -> list[bytes]:
        answers = []
        for client in clients:
            with client:
                answers.append(read_to_end(client)[:15])
        return answers

    assert await asyncio.to_thread(read_all) == [b"HTTP/1.1 200 OK"] * 20
    assert await running == 0


@pytest.mark.asyncio
async def test_what_an_idle_client_sent_since_the_loop_looked_is_served() -> None:
    process, running = await start()
    with socket.create_connection(("127.0.0.1", process.port), DEADLINE) as idle:
        idle.sendall(GET)
        await asyncio.to_thread(read_reply, idle)
        idle.sendall(GET)
        process.stop()
        answer = await asyncio.to_thread(read_to_end, idle)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert await running == 0


@pytest.mark.asyncio
async def test_a_client_that_can_not_be_connected_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise OSError(errno.EINVAL, "gone")

    process, running = await start()
    monkeypatch.setattr(asyncio.get_running_loop(), "connect_accepted_socket", fail)
    with socket.create_connection(("127.0.0.1", process.port), DEADLINE) as client:
        assert await asyncio.to_thread(read_to_end, client) == b""
    process.stop()
    assert await running == 0


def test_a_client_that_never_asks_is_not_waited_for_long() -> None:
    with DemoServer() as server, server.connect() as silent:
        server.get("/livez")
        start = time.monotonic()
        server.send_signal(signal.SIGTERM)
        assert silent.recv(1) == b""
        assert server.wait() == 0
        assert time.monotonic() - start < 3


def test_a_second_sigterm_changes_nothing() -> None:
    with DemoServer() as server, server.connect() as client:
        client.sendall(b"GET /?delay=300ms HTTP/1.1\r\nHost: x\r\n\r\n")
        server.get("/livez")
        server.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGTERM)
        assert read_to_end(client).startswith(b"HTTP/1.1 200 OK\r\n")
        client.close()
        assert server.wait() == 0
        assert "[ERROR]" not in server.read_rest()


def test_a_sigint_does_not_wait_for_the_delay_to_be_over() -> None:
    with DemoServer("--drain-delay", "0.3") as server, server.connect() as client:
        client.sendall(b"GET /?delay=500ms HTTP/1.1\r\nHost: x\r\n\r\n")
        server.get("/livez")
        server.send_signal(signal.SIGTERM)
        server.send_signal(signal.SIGINT)
        assert "stopped accepting" in server.read_line()
        assert read_to_end(client).startswith(b"HTTP/1.1 200 OK\r\n")
        client.close()
        assert server.wait() == 0
        assert "[ERROR]" not in server.read_rest()


def test_a_second_sigint_ends_it_now() -> None:
    with DemoServer() as server, server.connect() as client:
        client.sendall(b"GET /?delay=60s HTTP/1.1\r\nHost: x\r\n\r\n")
        server.get("/livez")
        server.send_signal(signal.SIGINT)
        eventually(lambda: is_refused(server))
        server.process.send_signal(signal.SIGINT)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert server.wait() == 1


def test_a_rude_pod_is_gone_at_sigterm() -> None:
    with DemoServer("--on-sigterm", "exit", "--drain-delay", "60") as server, server.connect() as client:
        client.sendall(b"GET /?delay=60s HTTP/1.1\r\nHost: x\r\n\r\n")
        server.get("/livez")
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert client.recv(1) == b""
        assert is_refused(server)


def test_a_rude_pod_still_obeys_a_person() -> None:
    with DemoServer("--on-sigterm", "exit") as server, server.connect() as client:
        client.sendall(b"GET /?delay=200ms HTTP/1.1\r\nHost: x\r\n\r\n")
        server.get("/livez")
        server.send_signal(signal.SIGINT)
        assert read_to_end(client).startswith(b"HTTP/1.1 200 OK\r\n")
        client.close()
        assert server.wait() == 0
