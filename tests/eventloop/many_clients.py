"""Very many client connections to a whole podlb, one request each, that end in every way in which clients end.

The backend and the clients run on our loop, in this process.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from lb.sockets import reset
from tests.eventloop.many_connections import source_address

AT_ONCE = 50
ENDS = [
    *("closes",) * 4,
    "asks to close",
    "resets",
    "resets without waiting",
    "half-closes",
    "asks twice",
    "leaves in the middle",
]
_BODY = b"b" * 1000
_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + _BODY


class Backend(asyncio.Protocol):
    """Answers every request, and keeps the connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n") + 4) >= 4:
            self._buffer = self._buffer[end:]
            self._transport.write(_RESPONSE)


class Client(asyncio.Protocol):
    """Asks, and ends the connection in its way."""

    def __init__(self, number: int, ended: asyncio.Future[str]) -> None:
        self._end = ENDS[number % len(ENDS)]
        self._ended = ended
        self._received = b""
        self._missing = 2 if self._end == "asks twice" else 1
        """Responses."""

    def _ask(self) -> None:
        close = "Connection: close\r\n" if self._end == "asks to close" else ""
        self._transport.write(f"GET / HTTP/1.1\r\nHost: podlb\r\n{close}\r\n".encode())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._ask()
        if self._end == "resets without waiting":
            self._missing = 0
            reset(self._transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._end == "leaves in the middle":
            self._missing = 0
            self._transport.abort()
            return
        head, mark, body = self._received.partition(b"\r\n\r\n")
        if not mark or len(body) < len(_BODY):
            return
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body == _BODY
        self._received = b""
        self._missing -= 1
        if self._missing:
            self._ask()
        elif self._end == "resets":
            reset(self._transport)
        elif self._end == "half-closes":
            self._transport.write_eof()
        elif self._end != "asks to close":
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._missing:
            self._ended.set_exception(exc or EOFError(f"{self._end}: {self._missing} responses are missing"))
        else:
            self._ended.set_result(self._end)


async def visit(port: int, count: int, first_batch: int) -> Counter[str]:
    """Make `count` connections to a port of this machine; return how many ended how."""
    loop = asyncio.get_running_loop()

    async def one(number: int, source: str) -> str:
        ended = loop.create_future()
        await loop.create_connection(lambda: Client(number, ended), "127.0.0.1", port, local_addr=(source, 0))
        return await ended

    ends: Counter[str] = Counter()
    for batch in range(count // AT_ONCE):
        source = source_address(first_batch + batch)
        ends.update(await asyncio.gather(*(one(number, source) for number in range(AT_ONCE))))
    return ends
