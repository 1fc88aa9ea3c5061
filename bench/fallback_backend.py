"""A stand-in for the nginx backend: answers every GET with the same bodies.

`python -m bench.fallback_backend PORT`
"""

from __future__ import annotations

import asyncio
import sys

from bench.backend import BULK_BODY, BULK_PATH, SMALL_BODY


def _response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


_SMALL, _BULK = _response(SMALL_BODY), _response(BULK_BODY)
_BULK_START = f"GET {BULK_PATH} ".encode()
_END_OF_HEAD = b"\r\n\r\n"


class Responder(asyncio.Protocol):
    """Counts the ends of heads: the load has no request bodies."""

    def __init__(self) -> None:
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        heads = (self._rest + data).split(_END_OF_HEAD)
        self._rest = heads.pop()
        if heads:
            self._transport.write(b"".join(_BULK if head.startswith(_BULK_START) else _SMALL for head in heads))


async def serve(port: int) -> None:
    """Answer on 127.0.0.1 until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Responder, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
