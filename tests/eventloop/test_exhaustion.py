"""No descriptor, no memory: whoever asked is told or waits, and everybody else is served as before."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import select
import socket
import subprocess
import sys
from typing import Any

import pytest

if not hasattr(select, "epoll"):
    pytest.skip("epoll is there on Linux only", allow_module_level=True)

from lb import listener
from lb.eventloop import serving
from lb.listener import Listener
from tests.eventloop.conformance import Echo, OnLoop, Peer, Recorder, attach, block, socket_pair
from tests.eventloop.scarce_descriptors import CLIENTS, ROOM
from tests.integration.processes import ROOT

ERRORS = pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])


def run_without_descriptors(loop: str, what: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.eventloop.scarce_descriptors", loop, what],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=9,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    happened: dict[str, Any] = json.loads(done.stdout)
    return happened


@pytest.mark.parametrize(
    ("loop", "kind"), [("epoll", "server"), *((n, "listener") for n in ("epoll", "uvloop", "asyncio"))]
)
def test_clients_wait_until_there_is_a_descriptor_for_them(loop: str, kind: str) -> None:
    happened = run_without_descriptors(loop, kind)
    assert happened["accepted"] == ROOM
    # Once, not at every turn of the loop.
    assert happened["told"] == 1
    assert "oo many open files" in happened["errors"][0]
    assert happened["served"] == CLIENTS
    assert happened["left open"] == 0


def test_a_connect_without_a_descriptor_says_so() -> None:
    happened = run_without_descriptors("epoll", "client")
    assert happened == {"errors": ["Too many open files"] * 3, "served": 1, "left open": 0}


class Scarce(socket.socket):
    """A socket whose next calls fail for want of something."""

    def fail(self, call: str, number: int, times: int = 1) -> None:
        """Let the next calls of `call` fail with the error `number`."""
        self.call, self.number, self.times = call, number, times

    def _maybe_fail(self, call: str) -> None:
        if getattr(self, "call", None) == call and self.times:
            self.times -= 1
            raise OSError(self.number, os.strerror(self.number))

    # What accept() calls.
    def _accept(self) -> Any:
        self._maybe_fail("accept")
        return super()._accept()  # type: ignore[misc]

    def send(self, *arguments: Any) -> int:
        self._maybe_fail("send")
        return super().send(*arguments)

    def sendmsg(self, *arguments: Any) -> int:
        self._maybe_fail("send")
        return super().sendmsg(*arguments)

    def connect(self, *arguments: Any) -> None:
        self._maybe_fail("connect")
        super().connect(*arguments)


def scarce_listening() -> Scarce:
    sock = Scarce()
    sock.bind(("127.0.0.1", 0))
    sock.listen(10)
    sock.setblocking(False)
    return sock


async def check_served(peers: list[Peer]) -> None:
    for number, peer in enumerate(peers):
        await peer.send(b"%d" % number)
        assert await peer.read(1) == b"%d" % number
        peer.close()


@ERRORS
def test_a_server_goes_on_accepting(on_epoll: OnLoop, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(serving, "_ACCEPT_PAUSE", 0.01)

    async def main() -> None:
        listening = scarce_listening()
        listening.fail("accept", number, times=3)
        peers = [Peer(socket.create_connection(listening.getsockname())) for _ in range(5)]
        server = await asyncio.get_running_loop().create_server(Echo, sock=listening)
        await check_served(peers)
        assert listening.times == 0
        server.close()
        await server.wait_closed()

    on_epoll(main)
    assert [context["exception"].errno for context in on_epoll.errors] == [number] * 3
    on_epoll.errors.clear()


def test_a_server_that_is_closed_while_it_pauses(on_epoll: OnLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_ACCEPT_PAUSE", 0.01)

    async def main() -> None:
        listening = scarce_listening()
        listening.fail("accept", errno.EMFILE)
        peer = Peer(socket.create_connection(listening.getsockname()))
        server = await asyncio.get_running_loop().create_server(Echo, sock=listening)
        while not on_epoll.errors:
            await asyncio.sleep(0)
        server.close()
        await server.wait_closed()
        # A reader of somebody else on the same descriptor number must not be taken for the server.
        ours, theirs = socket_pair()
        recorder = Recorder()
        await asyncio.get_running_loop().connect_accepted_socket(lambda: recorder, ours)
        await asyncio.sleep(0.02)
        theirs.sendall(b"fine")
        await recorder.until("data")
        await recorder.end()
        theirs.close()
        peer.close()

    on_epoll(main)
    assert on_epoll.take_error().errno == errno.EMFILE  # type: ignore[attr-defined]


@ERRORS
def test_the_listener_goes_on_accepting(
    on_loop: OnLoop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    monkeypatch.setattr(listener, "_EXHAUSTED_PAUSE", 0.01)

    async def main() -> None:
        listening = scarce_listening()
        listening.fail("accept", number, times=3)
        peers = [Peer(socket.create_connection(listening.getsockname())) for _ in range(5)]
        listens = Listener([listening], Echo, asyncio.get_running_loop())
        listens.start()
        await check_served(peers)
        assert listening.times == 0
        await listens.close()

    on_loop(main)
    messages = [record.getMessage() for record in caplog.records if record.name == "lb.listener"]
    assert len(messages) == 3
    assert all(os.strerror(number) in message for message in messages)


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.ENOMEM])
@pytest.mark.parametrize("waiting", [0, 1, 5])
def test_a_send_that_fails_costs_one_connection(on_epoll: OnLoop, number: int, waiting: int) -> None:
    """`waiting` is how many writes wait in the transport when it happens."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        calm = Echo()
        calm_peer = await attach(calm)
        ours, theirs = socket_pair(buffers=64 << 10)
        sock = Scarce(fileno=ours.detach())
        sock.setblocking(False)
        recorder = Recorder()
        loop.make_transport(recorder, sock)
        peer = Peer(theirs)
        if waiting:
            recorder.transport.write(block(1 << 20))
            for _ in range(waiting - 1):
                recorder.transport.write(b"more")
        sock.fail("send", number)
        if not waiting:
            recorder.transport.write(b"not sent")
        assert len(await peer.read_to_end()) < 1 << 20
        await recorder.until("lost")
        assert isinstance(recorder.error, OSError)
        assert recorder.error.errno == number
        assert recorder.events.count("lost") == 1
        assert sock.fileno() < 0
        await calm_peer.send(b"hello")
        assert await calm_peer.read(5) == b"hello"
        await calm.end()
        calm_peer.close()
        peer.close()

    on_epoll(main)


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL])
def test_a_connect_that_fails_says_so(on_loop: OnLoop, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        with Scarce() as sock:
            sock.setblocking(False)
            sock.fail("connect", number)
            with pytest.raises(OSError) as caught:
                await loop.sock_connect(sock, address)
            assert caught.value.errno == number
            await loop.sock_connect(sock, address)
            await loop.sock_sendall(sock, b"hello")
            assert await loop.sock_recv(sock, 5) == b"hello"
        server.close()
        await server.wait_closed()

    on_loop(main)


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL])
def test_a_connection_that_can_not_be_made_leaves_nothing(
    on_epoll: OnLoop, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    class ScarceOnce(Scarce):
        left = 1

        def connect(self, *arguments: Any) -> None:
            if ScarceOnce.left:
                ScarceOnce.left -= 1
                self.fail("connect", number)
            super().connect(*arguments)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        monkeypatch.setattr(socket, "socket", ScarceOnce)
        with pytest.raises(OSError) as caught:
            await loop.create_connection(Recorder, *address)
        assert caught.value.errno == number
        _, client = await loop.create_connection(Recorder, *address)
        client.transport.write(b"hello")
        await client.until(lambda: client.received == b"hello")
        await client.end()
        server.close()
        await server.wait_closed()

    on_epoll(main)
