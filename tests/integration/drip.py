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


class Drip:
    """Keeps `count` connections. No task for each: ten thousand timers a second would slow down what is measured."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._count = count
        self._made: dict[int, socket.socket] = {}
        self._semaphore = asyncio.Semaphore(100)

    async def make(self, number: int) -> None:
        """Make connection `number`, however often that takes."""
        loop = asyncio.get_running_loop()
        while True:
            sock = socket.socket()
            sock.setblocking(False)
            # At the end a reset: ten thousand ports in TIME_WAIT would be in the way of other tests.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            try:
                # One address has too few ports for very many.
                sock.bind((f"127.0.1.{1 + number % _SOURCES}", 0))
                async with self._semaphore:
                    await loop.sock_connect(sock, ("127.0.0.1", self._port))
                sock.send(_HEAD)
            except OSError:
                sock.close()
                await asyncio.sleep(0.2)
            else:
                self._made[number] = sock
                return

    def send_byte(self, number: int) -> bool:
        """Send one byte more of the head. Is the connection open?"""
        sock = self._made[number]
        try:
            sock.send(b"a")
            # Whatever is answered, it is the end.
            sock.recv(4096)
        except BlockingIOError:
            return True
        except OSError:
            pass
        sock.close()
        del self._made[number]
        return False

    async def run(self) -> None:
        """Go on until the process is ended."""
        loop = asyncio.get_running_loop()
        making = {loop.create_task(self.make(number)) for number in range(self._count)}
        is_said = False
        while True:
            began = loop.time()
            for at, number in enumerate(list(self._made)):
                if not self.send_byte(number):
                    making.add(loop.create_task(self.make(number)))
                if at % 100 == 99:
                    await asyncio.sleep(0)
            making = {task for task in making if not task.done()}
            if not is_said and not making:
                is_said = True
                print("ready", flush=True)
            await asyncio.sleep(max(1 - (loop.time() - began), 0.01) if is_said else 0.1)


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(Drip(int(sys.argv[1]), int(sys.argv[2])).run())
