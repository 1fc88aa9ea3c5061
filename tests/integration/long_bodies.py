"""Long bodies whose every byte counts: sent, read at any pace, and compared by their digest."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from collections.abc import Callable, Iterator

from tests.eventloop.splicing import Splices
from tests.fakes import Stream, TruncatedError, request
from tests.integration.endpoint import Connection
from tests.integration.harness import Balancer, Variant

_BLOCK = random.Random(12).randbytes(1 << 20)


def pieces_of(size: int) -> Iterator[bytes]:
    """Give a body of `size` bytes in pieces, no two of which are the same."""
    for number in range(size // len(_BLOCK)):
        yield number.to_bytes(8) + _BLOCK[8:]
    if rest := size % len(_BLOCK):
        yield _BLOCK[-rest:]


def body_of(size: int) -> bytes:
    """Return that body."""
    return b"".join(pieces_of(size))


def digest_of(size: int) -> bytes:
    """Return the digest of that body."""
    digest = hashlib.sha256()
    for piece in pieces_of(size):
        digest.update(piece)
    return digest.digest()


def at_once(read: int) -> None:
    """Read on at once."""


def slowly(every: int, seconds: float = 0.001) -> Callable[[int], None]:
    """Wait `seconds` behind about every `every` bytes."""
    never = threading.Event()
    left = every

    def wait(read: int) -> None:
        nonlocal left
        left -= read
        if left <= 0:
            left = every
            never.wait(seconds)

    return wait


def read_digest(stream: Stream, size: int, pace: Callable[[int], None] = at_once) -> bytes:
    """Read `size` bytes and return their digest. Raises TruncatedError with how many came."""
    digest = hashlib.sha256(stream.buffer[:size])
    left = size - len(stream.buffer[:size])
    stream.buffer = stream.buffer[size:]
    while left:
        data = stream.socket.recv(min(left, 300_000))
        if not data:
            raise TruncatedError(b"%d" % (size - left))
        digest.update(data)
        left -= len(data)
        pace(len(data))
    return digest.digest()


def send_body(sock: socket.socket, size: int) -> None:
    """Send the body of `size` bytes."""
    for piece in pieces_of(size):
        sock.sendall(piece)


def head_of(size: int) -> bytes:
    """Return the head of a response with a body of `size` bytes."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size


def answer_by_target(connection: Connection, message: object) -> None:
    """Answer `/SIZE` with a body of that size."""
    size = int(message.target[1:])  # type: ignore[attr-defined]
    connection.send(head_of(size))
    send_body(connection.socket, size)


def assert_spliced(splices: Splices, variant: Variant) -> None:
    """Fail unless bodies went through the kernel where they should have."""
    assert bool(splices.bytes) == (variant.loop == "epoll")


def check_another(lb: Balancer, reason: str) -> None:
    """The exchange ended for `reason`, and a client that comes now is served."""
    assert lb.ends() == {reason: 1}
    size = 4 << 20
    client = lb.client()
    client.send(request("GET", f"/{size}"))
    client.stream.take_through(b"\r\n\r\n")
    assert read_digest(client.stream, size) == digest_of(size)
    assert lb.ends() == {reason: 1, "ok": 1}
