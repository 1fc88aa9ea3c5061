"""What the judges do to a server: the same load for whichever program serves, and the checks of what comes back."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp

MEGABYTE = 1 << 20


def body(seed: int, size: int) -> bytes:
    """Return `size` bytes that no other seed gives."""
    return random.Random(seed).randbytes(size)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Load:
    """Requests to a server that offers these paths.

    `POST /digest` answers with the digest of the body, `GET /body/SEED/SIZE` with `body(SEED, SIZE)` in several writes,
    and `/echo` is a WebSocket that sends back what it receives.
    """

    session: aiohttp.ClientSession
    base: str

    async def upload(self, seed: int, size: int) -> None:
        data = body(seed, size)
        async with self.session.post(f"{self.base}/digest", data=io.BytesIO(data)) as response:
            assert response.status == 200
            assert await response.text() == digest(data)

    async def upload_in_chunks(self, seed: int, size: int) -> None:
        data = body(seed, size)

        async def chunks() -> AsyncIterator[bytes]:
            for at in range(0, len(data), 50_001):
                yield data[at : at + 50_001]

        async with self.session.post(f"{self.base}/digest", data=chunks()) as response:
            assert response.status == 200
            assert await response.text() == digest(data)

    async def download(self, seed: int, size: int) -> None:
        async with self.session.get(f"{self.base}/body/{seed}/{size}") as response:
            assert response.status == 200
            assert digest(await response.read()) == digest(body(seed, size))

    async def download_slowly(self, seed: int, size: int) -> None:
        """Let the server wait for us again and again."""
        hashed = hashlib.sha256()
        async with self.session.get(f"{self.base}/body/{seed}/{size}") as response:
            async for part in response.content.iter_chunked(30_000):
                hashed.update(part)
                await asyncio.sleep(0)
        assert hashed.hexdigest() == digest(body(seed, size))

    async def give_up(self, seed: int) -> None:
        """Leave in the middle of a download."""
        async with self.session.get(f"{self.base}/body/{seed}/{8 * MEGABYTE}") as response:
            await response.content.readexactly(10_000)
            response.close()

    async def run(self, *, slow_readers: bool) -> None:
        """Hundreds of requests at once, then bodies of megabytes at once."""
        await asyncio.gather(
            *(self.upload(seed, seed * 10) for seed in range(200)),
            *(self.download(seed, seed * 10) for seed in range(200)),
        )
        await asyncio.gather(
            *(self.upload(seed, MEGABYTE + seed) for seed in range(10)),
            *(self.upload_in_chunks(seed, MEGABYTE + seed) for seed in range(10)),
            *(self.download(seed, MEGABYTE + seed) for seed in range(10)),
            *(self.download_slowly(seed, MEGABYTE + seed) for seed in range(5 if slow_readers else 0)),
            *(self.give_up(seed) for seed in range(5)),
        )
        for seed in range(100):
            await self.upload(seed, 100)


def new_session(context: ssl.SSLContext | None, *, keep_alive: bool) -> aiohttp.ClientSession:
    """Return a client without a limit of connections."""
    connector = aiohttp.TCPConnector(limit=0, force_close=not keep_alive, ssl=context or True)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60))


def can_read_slowly(*, tls: bool, keep_alive: bool) -> bool:
    """Tell whether a reader may pause: asyncio's TLS, on whichever loop, then drops what is read behind a close."""
    return keep_alive or not tls


def messages(seed: int) -> list[bytes | str]:
    """Return WebSocket messages of many sizes, as bytes and as text."""
    sizes = [0, 1, 125, 126, 65_535, 65_536, 200_000]
    return [message for size in sizes for message in (body(seed, size), digest(b"%d" % seed)[:1] * size)]
