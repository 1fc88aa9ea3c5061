"""A program for tests: very many connections to a port of 127.0.0.1, each of which sends a head a byte a second.

`python -m tests.integration.drip PORT COUNT`. One that is closed is made again. Says "ready" when all were made once.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import struct
import sys

_SOURCES = 20
_HEAD = b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "


async def drip(number: int, port: int, made: asyncio.Semaphore) -> None:
    loop = asyncio.get_running_loop()
    is_first = True
    while True:
        sock = socket.socket()
        sock.setblocking(False)
        try:
            # At the end a reset: ten thousand ports in TIME_WAIT would be in the way of other tests.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # One address has too few ports for very many.
            sock.bind((f"127.0.1.{1 + number % _SOURCES}", 0))
            async with made:
                await loop.sock_connect(sock, ("127.0.0.1", port))
                if is_first:
                    await asyncio.sleep(0.01)
            is_first = False
            await loop.sock_sendall(sock, _HEAD)
            while True:
                try:
                    async with asyncio.timeout(1):
                        if not await loop.sock_recv(sock, 4096):
                            break
                except TimeoutError:
                    await loop.sock_sendall(sock, b"a")
        except OSError:
            await asyncio.sleep(0.2)
        finally:
            sock.close()


async def main(port: int, count: int) -> None:
    made = asyncio.Semaphore(100)
    drips = [asyncio.create_task(drip(number, port, made)) for number in range(count)]
    await asyncio.sleep(count / 2500)
    print("ready", flush=True)
    await asyncio.gather(*drips)


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
