"""Both ends of a tunnel in the test's own hands, whether it is an upgraded connection or one in TCP mode."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from lb.endpoint import Endpoint, make_endpoint
from lb.sockets import unsent_bytes
from lb.tunnel import Side, Tunnel
from tests.fakes import DEADLINE, Client, Message, Stream, eventually, read_request_head, request
from tests.integration.harness import Balancer
from tests.integration.long_bodies import send_body
from tests.integration.ports import bind

ASK = ("Connection: Upgrade", "Upgrade: websocket")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

NASTY = b"".join(
    [
        b"\x00\xff\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 500 No\r\nConnection: close\r\n\r\n0\r\n\r\n\x16\x03\x01PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        random.Random(13).randbytes(5000),
    ]
)
"""Bytes that mean something to HTTP, and bytes that mean nothing."""


class Peer(Client):
    """The endpoint's end of a connection that the balancer made."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        sock.settimeout(DEADLINE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = Stream(sock)

    def read_head(self) -> Message:
        """Read a request head."""
        head = read_request_head(self.stream)
        assert head is not None, "closed instead of a request"
        return head


class Port:
    """A listening socket whose connections the test accepts itself. `receive_buffer` is for each of them."""

    def __init__(self, receive_buffer: int | None = None) -> None:
        self._socket = bind(0)
        self._socket.settimeout(DEADLINE)
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.listen(512)
        self._peers: list[Peer] = []

    @property
    def value(self) -> Endpoint:
        return make_endpoint("127.0.0.1", self._socket.getsockname()[1])

    def accept(self) -> Peer:
        """Return the next connection."""
        peer = Peer(self._socket.accept()[0])
        self._peers.append(peer)
        return peer

    def has_none(self) -> bool:
        """Did nobody connect? To be asked when somebody would have by now."""
        self._socket.settimeout(0)
        try:
            self._peers.append(Peer(self._socket.accept()[0]))
        except BlockingIOError:
            return True
        finally:
            self._socket.settimeout(DEADLINE)
        return False

    def stop(self) -> None:
        """Close everything."""
        self._socket.close()
        for peer in self._peers:
            peer.close()


class Tunnels:
    """A balancer over one port, and tunnels through it."""

    def __init__(self, kind: str, lb: Balancer, port: Port) -> None:
        self.kind = kind
        self.lb = lb
        self.port = port

    def open(self, **options: Any) -> tuple[Client, Peer]:
        """Open a tunnel: the client's end, and the endpoint's. `options` are the client's."""
        client = self.lb.client(**options)
        if self.kind == "upgrade":
            client.send(request("GET", "/", *ASK))
        peer = self.port.accept()
        if self.kind == "tcp":
            ours = client.socket.getsockname()
            eventually(lambda: self.lb.call(self._is_open, ours), "the tunnel")
        else:
            peer.read_head()
            peer.send(SWITCH)
            head = client.stream.take_through(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 "), head
        return client, peer

    def _is_open(self, client: object) -> bool:
        return any(side.transport.get_extra_info("peername") == client for side in self._sides())

    def _sides(self) -> list[Side]:
        """Return both sides of every tunnel, the client's first. Not those that are not connected yet."""
        tunnels = [tunnel for tunnel in self.lb.server.proxy.connections if isinstance(tunnel, Tunnel)]
        return [side for tunnel in tunnels for side in (tunnel._client, tunnel._endpoint)]

    def _side(self, name: str) -> Side:
        return self._sides()[0 if name == "client" else 1]

    def buffered(self) -> int:
        """Return how many bytes are in the buffers of all transports of the balancer's tunnels."""
        return self.lb.call(lambda: sum(side.transport.get_write_buffer_size() for side in self._sides()))

    def unsent(self) -> int:
        """Return the same, with what the kernel has of them."""
        return self.lb.call(lambda: sum(unsent_bytes(side.transport) for side in self._sides()))

    def has_fin(self, name: str) -> bool:
        """Has the balancer read the FIN of one side of the only tunnel?"""
        return self.lb.call(lambda: self._side(name).fin)

    def has_lost(self, name: str) -> bool:
        """Is one side of the only tunnel lost to the balancer?"""
        return self.lb.call(lambda: self._side(name).is_lost)


MakeTunnels = Callable[..., Tunnels]


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, lb: Balancer, seconds: float) -> None:
        """Let `seconds` pass at once: whoever has a deadline before the new time is told."""
        self.now += seconds
        lb.call(lb.server.proxy.deadlines.expire, self.now)


class Pump:
    """Sends a long body, then a FIN if asked for, in a thread of its own."""

    def __init__(self, end: Client, size: int, *, fin: bool = False) -> None:
        self._end = end
        self._size = size
        self._fin = fin
        self.is_done = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with suppress(OSError):  # it was cut: whoever reads sees how
            send_body(self._end.socket, self._size)
            if self._fin:
                self._end.fin()
            self.is_done = True

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join(2 * DEADLINE)
        assert not self._thread.is_alive(), "not all was taken"


def fill(end: Client) -> int:
    """Send until nothing more is taken for a while; return how many bytes were."""
    end.socket.settimeout(0.3)
    sent = 0
    try:
        while True:
            sent += end.socket.send(bytes(65536))
    except TimeoutError:
        return sent
    finally:
        end.socket.settimeout(DEADLINE)


def fill_until(end: Client, is_enough: Callable[[], object]) -> int:
    """Send small pieces until there is enough; return how many bytes that were."""
    sent = 0
    while not is_enough():
        end.send(bytes(4096))
        sent += 4096
    return sent


def read_all(end: Client) -> bytes:
    """Return the digest of everything up to the FIN."""
    digest = hashlib.sha256(end.stream.buffer)
    end.stream.buffer = b""
    while data := end.socket.recv(1 << 20):
        digest.update(data)
    return digest.digest()
