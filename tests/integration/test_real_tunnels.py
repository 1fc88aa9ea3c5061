"""Real programs through tunnels: WebSockets through an upgrade; TLS and HTTP/2 through TCP mode."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import aiohttp
import pytest
from websockets.exceptions import ConnectionClosedOK
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from lb.endpoint import Endpoint, make_endpoint
from tests.eventloop.certificates import server_context
from tests.fakes import DEADLINE, eventually, free_port
from tests.integration.conftest import MakeBalancer

pytestmark = pytest.mark.any_parser


def program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin")


NGHTTPD, NGHTTP, H2LOAD, OPENSSL = (program(name) for name in ("nghttpd", "nghttp", "h2load", "openssl"))
needs_nghttp2 = pytest.mark.skipif(
    None in (NGHTTPD, NGHTTP, H2LOAD), reason="nghttp2's programs are not installed (nghttp2-client, nghttp2-server)"
)
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")


def echo(connection: ServerConnection) -> None:
    for message in connection:
        if message == "bye":
            connection.close(1000, "as you wish")
            return
        connection.send(message)


@pytest.fixture(scope="module")
def echo_server() -> Iterator[Endpoint]:
    with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield make_endpoint("127.0.0.1", server.socket.getsockname()[1])
        server.shutdown()
        thread.join(DEADLINE)


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_websockets(mode: str, echo_server: Endpoint, balancer: MakeBalancer) -> None:
    lb = balancer(echo_server, mode=mode)
    with connect(f"ws://127.0.0.1:{lb.port}/", max_size=None) as socket_:
        for size in (0, 1, 125, 126, 65535, 65536, 1 << 20):
            data = os.urandom(size)
            socket_.send(data)
            assert socket_.recv(DEADLINE) == data
        assert socket_.ping().wait(DEADLINE)
    with connect(f"ws://127.0.0.1:{lb.port}/") as socket_:
        socket_.send("bye")
        with pytest.raises(ConnectionClosedOK, match="as you wish"):
            socket_.recv(DEADLINE)
    assert lb.ends() == {"ok": 2}


def test_many_websockets_at_once(echo_server: Endpoint, balancer: MakeBalancer) -> None:
    lb = balancer(echo_server)
    with ExitStack() as stack:
        sockets = [stack.enter_context(connect(f"ws://127.0.0.1:{lb.port}/")) for _ in range(20)]
        for turn in range(10):
            for number, socket_ in enumerate(sockets):
                socket_.send(f"{number}-{turn}")
            for number, socket_ in enumerate(sockets):
                assert socket_.recv(DEADLINE) == f"{number}-{turn}"
    assert lb.ends() == {"ok": 20}


def test_aiohttp(echo_server: Endpoint, balancer: MakeBalancer) -> None:
    """Another client, many at once, each with a long message under way; the server closes."""
    lb = balancer(echo_server)
    data = [os.urandom(1 << 20) for _ in range(8)]

    async def talk(session: aiohttp.ClientSession, number: int) -> None:
        async with session.ws_connect(f"http://127.0.0.1:{lb.port}/", max_msg_size=0) as socket_:
            await socket_.send_bytes(data[number])
            assert await socket_.receive_bytes(timeout=DEADLINE) == data[number]
            await socket_.send_str("bye")
            message = await socket_.receive(timeout=DEADLINE)
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1000)

    async def talk_all() -> None:
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(talk(session, number) for number in range(len(data))))

    asyncio.run(talk_all())
    assert lb.ends() == {"ok": len(data)}


@needs_openssl
def test_openssl(balancer: MakeBalancer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE)

        def serve_one() -> None:
            with server_context().wrap_socket(listener.accept()[0], server_side=True) as sock:
                while data := sock.recv(65536):
                    sock.sendall(data.upper())
                sock.unwrap()

        thread = threading.Thread(target=serve_one)
        thread.start()
        lb = balancer(make_endpoint("127.0.0.1", listener.getsockname()[1]), mode="tcp")
        assert OPENSSL is not None
        command = [OPENSSL, "s_client", "-quiet", "-no_ign_eof", "-connect", f"127.0.0.1:{lb.port}"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        ) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(b"hello\n")
            assert client.stdout.read(6) == b"HELLO\n"
            client.stdin.close()
            assert client.wait(DEADLINE) == 0
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert lb.ends() == {"ok": 1}


def test_tls_of_python(balancer: MakeBalancer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE)

        def serve_one() -> None:
            with server_context().wrap_socket(listener.accept()[0], server_side=True) as sock:
                total = 0
                while total < 3_000_000:
                    total += len(sock.recv(65536))
                sock.sendall(b"%d" % total)
                with suppress(OSError):  # the client does not say goodbye
                    sock.unwrap()

        thread = threading.Thread(target=serve_one)
        thread.start()
        lb = balancer(make_endpoint("127.0.0.1", listener.getsockname()[1]), mode="tcp")
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        raw = socket.create_connection(("127.0.0.1", lb.port), DEADLINE)
        with context.wrap_socket(raw) as sock:
            sock.sendall(os.urandom(3_000_000))
            assert sock.recv(100) == b"3000000"
            assert sock.recv(100) == b""
        thread.join(DEADLINE)


@pytest.fixture
def http2_server(tmp_path: Path) -> Iterator[Endpoint]:
    (tmp_path / "file").write_bytes(b"content" * 100_000)
    port = free_port()
    assert NGHTTPD is not None
    server = subprocess.Popen(
        [NGHTTPD, "--no-tls", "-a", "127.0.0.1", "-d", str(tmp_path), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def listens() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            return False
        return True

    try:
        eventually(listens, "nghttpd")
        yield make_endpoint("127.0.0.1", port)
    finally:
        server.kill()
        server.wait(DEADLINE)


@needs_nghttp2
def test_http2(http2_server: Endpoint, balancer: MakeBalancer) -> None:
    lb = balancer(http2_server, mode="tcp")
    url = f"http://127.0.0.1:{lb.port}/file"
    assert NGHTTP is not None
    assert H2LOAD is not None
    got = subprocess.run([NGHTTP, url], capture_output=True, timeout=30, check=True)
    assert got.stdout == b"content" * 100_000
    load = subprocess.run(
        [H2LOAD, "-n", "200", "-c", "10", "-m", "5", url], capture_output=True, timeout=30, check=True, text=True
    )
    assert "200 succeeded, 0 failed" in load.stdout, load.stdout
    assert set(lb.ends()) <= {"ok", "client_gone"}
