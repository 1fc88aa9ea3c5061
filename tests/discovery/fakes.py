"""What the tests of static and file discovery share: a clock, a name server, and a consumer of snapshots."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable

from lb.endpoint import Endpoint, Snapshot, make_endpoint


class FakeSleep:
    """Stands for asyncio.sleep: each sleep ends when the test says so."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._sleeping: asyncio.Future[None] | None = None
        self._began = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        self._sleeping = asyncio.get_running_loop().create_future()
        self._began.set()
        try:
            await self._sleeping
        finally:
            self._sleeping = None

    async def end_one(self, times: int = 1) -> None:
        """End the sleep `times` times, and each time wait until the sleeper has done its work and sleeps again."""
        for _ in range(times):
            await self._wait_until_asleep()
            self._began.clear()
            assert self._sleeping is not None
            self._sleeping.set_result(None)
            await self._wait_until_asleep()

    async def _wait_until_asleep(self) -> None:
        async with asyncio.timeout(5):
            await self._began.wait()


class FakeNames:
    """A name server whose answers the test sets; an unknown name fails as the system's resolver does."""

    def __init__(self, **answers: list[str] | Exception) -> None:
        self.answers: dict[str, Iterable[str] | Exception] = dict(answers)
        self.asked: list[str] = []

    async def __call__(self, name: str) -> Iterable[str]:
        self.asked.append(name)
        await asyncio.sleep(0)
        answer = self.answers.get(name, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
        if isinstance(answer, Exception):
            raise answer
        return answer


def endpoints(*texts: str) -> Snapshot:
    """Return a snapshot from texts such as `10.0.0.1:80` (its own name) or `10.0.0.1:80 name`."""
    return tuple(_endpoint(*text.split(" ")) for text in texts)


def _endpoint(authority: str, name: str = "") -> Endpoint:
    host, _, port = authority.rpartition(":")
    address = host.strip("[]")
    return make_endpoint(address, int(port), name=name or address)
