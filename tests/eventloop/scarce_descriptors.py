"""A program that serves with too few descriptors for its clients; it prints what happened as a line of JSON.

Usage: python -m tests.eventloop.scarce_descriptors LOOP server|listener|client
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import socket
import sys
from contextlib import contextmanager
from typing import Any

from lb.eventloop import new_event_loop
from lb.listener import Listener
from tests.eventloop.conformance import Echo, Peer, Recorder

CLIENTS = 20
ROOM = 8
"""How many of them find a descriptor."""

happened: dict[str, Any] = {"errors": []}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) - 1


@contextmanager
def room_for(count: int) -> Any:
    """Let `count` more descriptors be opened, and no further one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [number for number in range(descriptors() + 100) if not os.path.exists(f"/proc/self/fd/{number}")]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[count], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Errors(logging.Handler):
    """Notes the errors that the listener logs."""

    def emit(self, record: logging.LogRecord) -> None:
        happened["errors"].append(record.getMessage())


async def serve(kind: str) -> None:
    loop = asyncio.get_running_loop()
    listening = socket.create_server(("127.0.0.1", 0), backlog=CLIENTS)
    listening.setblocking(False)
    accepted: list[Echo] = []

    def accept() -> Echo:
        accepted.append(Echo())
        return accepted[-1]

    peers = [Peer(socket.create_connection(listening.getsockname())) for _ in range(CLIENTS)]
    with room_for(ROOM):
        if kind == "server":
            server: Any = await loop.create_server(accept, sock=listening)
        else:
            server = Listener([listening], accept, loop)
            server.start()
        while not happened["errors"] or len(accepted) < ROOM:
            await asyncio.sleep(0)
        # Who was accepted is served meanwhile.
        for number, peer in enumerate(peers[:ROOM]):
            await peer.send(b"%d" % number)
            assert await peer.read(len(b"%d" % number)) == b"%d" % number
        happened["accepted"] = len(accepted)
        happened["told"] = len(happened["errors"])
    for number, peer in enumerate(peers):
        await peer.send(b"again %02d" % number)
        assert await peer.read(8) == b"again %02d" % number
        peer.close()
    happened["served"] = len(accepted)
    for echo in accepted:
        await echo.until("lost")
    if kind == "server":
        server.close()
        await server.wait_closed()
    else:
        await server.close()


async def connect() -> None:
    """Connect without a descriptor for it, and again with one."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    with room_for(0):
        for _ in range(3):
            try:
                await loop.create_connection(Recorder, *address)
            except OSError as error:
                happened["errors"].append(error.strerror)
    _, client = await loop.create_connection(Recorder, *address)
    client.transport.write(b"hello")
    await client.until(lambda: client.received == b"hello")
    happened["served"] = 1
    await client.end()
    server.close()
    await server.wait_closed()


def main(name: str, what: str) -> None:
    """Run on the loop `name`."""
    logging.getLogger("lb.listener").addHandler(Errors())
    before = descriptors()
    with asyncio.Runner(loop_factory=lambda: new_event_loop(name)) as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda loop, context: happened["errors"].append(str(context["exception"])))
        runner.run(connect() if what == "client" else serve(what))
    happened["left open"] = descriptors() - before
    print(json.dumps(happened))


if __name__ == "__main__":
    # The first loop of libuv opens descriptors that the process keeps.
    new_event_loop(sys.argv[1]).close()
    main(*sys.argv[1:])
