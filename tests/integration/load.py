"""A load generator: keep-alive connections, each with one request at a time, in one thread."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
_LENGTH = re.compile(rb"\r\nContent-Length: ([0-9]+)\r\n", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nConnection: close\r\n", re.IGNORECASE)


@dataclass
class Outcome:
    """What came of the requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    """Connections that ended in the middle of something."""


class _Connection(asyncio.Protocol):
    def __init__(self, raw: bytes, count: int, outcome: Outcome, on_closed: Callable[[], None]) -> None:
        self._raw = raw
        self._left = count
        self._outcome = outcome
        self._on_closed = on_closed
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._raw)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        head = self._buffer[:end]
        status, length = _STATUS.match(head), _LENGTH.search(head)
        assert status is not None
        assert length is not None
        end += int(length[1])
        if len(self._buffer) < end:
            return
        self._buffer = self._buffer[end:]
        self._outcome.statuses[int(status[1])] += 1
        self._left -= 1
        if self._buffer:
            self._outcome.errors.append("bytes that nobody asked for")
        if self._left and not _CLOSE.search(head):
            self._transport.write(self._raw)
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._left:
            self._outcome.errors.append(f"closed with {self._left} to go: {exc!r}")
        self._on_closed()


def load(port: int, raw: bytes, *, connections: int, requests: int) -> Outcome:
    """Send `raw` `requests` times over `connections` connections, whose responses must have a Content-Length."""
    outcome = Outcome()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        left = connections

        def closed() -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set()

        share, rest = divmod(requests, connections)
        for number in range(connections):
            count = share + (number < rest)
            await loop.create_connection(
                lambda count=count: _Connection(raw, count, outcome, closed),  # type: ignore[misc]
                "127.0.0.1",
                port,
            )
        await done.wait()

    asyncio.run(run())
    return outcome
