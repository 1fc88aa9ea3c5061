"""A program that makes very many connections to itself on our loop, and prints what it holds after each tenth of them.

Usage: python -m tests.eventloop.many_connections COUNT

Each connection is one request and its reply, and ends in one of the ways of `ENDS`. Both sides are on our loop; one
half of them is accepted by a server of the loop, the other half by podlb's listener. A line of JSON for each tenth goes
to stdout, and at the end one that counts the ways.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import struct
import sys
import time
from collections import Counter
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from lb.eventloop.loop import EpollEventLoop
from lb.listener import Listener
from lb.sockets import reset

AT_ONCE = 50
ENDS = [
    *("client closes",) * 4,
    "server closes",
    "client resets",
    "server resets",
    "client half-closes",
    "server half-closes",
    "client resets without waiting",
]
_REQUEST = struct.Struct("!B60x")
_REPLY = b"r" * 200


class ServerSide(asyncio.Protocol):
    """Replies to a request, and ends the connection if it is the server's turn to."""

    open = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        ServerSide.open += 1
        self._transport: Any = transport
        self._end = ""

    def data_received(self, data: bytes) -> None:
        self._end = ENDS[_REQUEST.unpack(data)[0]]
        if self._end == "client half-closes":
            return
        self._transport.write(_REPLY)
        if self._end == "server closes":
            self._transport.close()
        elif self._end == "server half-closes":
            self._transport.write_eof()

    def eof_received(self) -> None:
        if self._end == "client half-closes":
            self._transport.write(_REPLY)
        elif self._end == "server resets":
            # Only now: a reset may overtake what was sent before it.
            reset(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        ServerSide.open -= 1


class ClientSide(asyncio.Protocol):
    """Asks, waits for the whole reply, and ends the connection if it is the client's turn to."""

    def __init__(self, number: int, ended: asyncio.Future[None]) -> None:
        self._number = number
        self._end = ENDS[number]
        self._ended = ended
        self._missing = len(_REPLY)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        transport.write(_REQUEST.pack(self._number))  # type: ignore[attr-defined]
        if self._end == "client half-closes":
            self._transport.write_eof()
        elif self._end == "client resets without waiting":
            self._missing = 0
            reset(self._transport)

    def data_received(self, data: bytes) -> None:
        self._missing -= len(data)
        if self._missing:
            return
        if self._end == "client closes":
            self._transport.close()
        elif self._end == "client resets":
            reset(self._transport)
        elif self._end == "server resets":
            self._transport.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._missing:
            self._ended.set_exception(exc or EOFError(f"{self._end}: {self._missing} bytes are missing"))
        else:
            ends[self._end if exc is None else f"{self._end}, seen as a reset"] += 1
            self._ended.set_result(None)


ends: Counter[str] = Counter()


def source_address(batch: int) -> str:
    """Return an address of this machine for each batch, so that none runs out of ports (TIME_WAIT)."""
    return f"127.{batch // 250 // 250 % 250 + 1}.{batch // 250 % 250}.{batch % 250 + 1}"


async def connect_many(addresses: list[tuple[str, int]], count: int, first_batch: int) -> None:
    """Make `count` connections, some at once, to the addresses in turn."""
    loop = asyncio.get_running_loop()

    async def one(number: int, address: tuple[str, int], source: str) -> None:
        ended = loop.create_future()
        await loop.create_connection(lambda: ClientSide(number, ended), *address, local_addr=(source, 0))
        await ended

    numbers, targets = cycle(range(len(ENDS))), cycle(addresses)
    for batch in range(count // AT_ONCE):
        source = source_address(first_batch + batch)
        pairs = islice(zip(numbers, targets, strict=False), AT_ONCE)
        await asyncio.gather(*(one(number, address, source) for number, address in pairs))
        # So that each way of ending meets each kind of server.
        next(targets)


def held(connections: int, began: float) -> dict[str, float]:
    """Return what this process holds now."""
    gc.collect()
    return {
        "connections": connections,
        "seconds": round(time.monotonic() - began, 1),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "objects": len(gc.get_objects()),
        "resident": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
    }


async def main(count: int) -> None:
    """Make `count` connections and print what is held after each tenth."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(ServerSide, "127.0.0.1", 0, backlog=4 * AT_ONCE)
    listening = socket.create_server(("127.0.0.1", 0), backlog=4 * AT_ONCE)
    listening.setblocking(False)
    listener = Listener([listening], ServerSide, loop)
    listener.start()
    addresses = [server.sockets[0].getsockname(), listening.getsockname()]
    began, tenth = time.monotonic(), count // 10
    for number in range(10):
        await connect_many(addresses, tenth, number * (tenth // AT_ONCE))
        while ServerSide.open:
            await asyncio.sleep(0)
        print(json.dumps(held((number + 1) * tenth, began)), flush=True)
    print(json.dumps({"ends": ends}), flush=True)
    server.close()
    await server.wait_closed()
    await listener.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=EpollEventLoop) as runner:
        runner.run(main(int(sys.argv[1])))
