"""Messages of every size at which a read is filled, with a FIN behind them, a reset, or nothing for now."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from tests.eventloop.conformance import OnLoop

# Our loop reads 479 bytes, goes on with 32 KiB, and later reads 120 KiB.
EDGES = [479, 32768, 479 + 32768, 122880, 479 + 32768 + 122880]
SIZES = [edge + more for edge in EDGES for more in (-1, 0, 1)]


class Collecting(asyncio.Protocol):
    """Keeps what comes."""

    def __init__(self, size: int) -> None:
        loop = asyncio.get_running_loop()
        self.size = size
        self.data = b""
        self.whole: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.ended = False

    def data_received(self, data: bytes) -> None:
        self.data += data
        if len(self.data) == self.size and not self.whole.done():
            self.whole.set_result(None)

    def eof_received(self) -> None:
        self.ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("end", ["nothing", "fin", "fin_later", "reset_later"])
def test_all_of_it_comes(on_loop: OnLoop, size: int, end: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        message = bytes(index * 7 % 251 for index in range(size))
        with socket.create_server(("127.0.0.1", 0)) as listening:
            theirs = socket.create_connection(listening.getsockname())
            ours, _ = listening.accept()
        with theirs:
            theirs.settimeout(5)
            # All of it is there before the first read, as far as the kernel takes it.
            await loop.run_in_executor(None, theirs.sendall, message[: 1 << 16])
            if size <= 1 << 16 and end == "fin":
                theirs.shutdown(socket.SHUT_WR)
            transport, protocol = await loop.connect_accepted_socket(lambda: Collecting(size), ours)
            if size > 1 << 16:
                await loop.run_in_executor(None, theirs.sendall, message[1 << 16 :])
                if end == "fin":
                    theirs.shutdown(socket.SHUT_WR)
            await protocol.whole
            assert protocol.data == message
            if end == "nothing":
                # The next one is a message by itself.
                protocol.size += 1
                protocol.whole = loop.create_future()
                theirs.sendall(b"x")
                await protocol.whole
                transport.close()
            elif end == "fin_later":
                theirs.shutdown(socket.SHUT_WR)
            elif end == "reset_later":
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                theirs.close()
            await protocol.lost
            assert protocol.ended is end.startswith("fin")

    on_loop(main)
