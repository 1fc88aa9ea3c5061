"""The source for `backends`: a fixed list of addresses and names; names are looked up again every 30 s."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from lb.config import Backend
from lb.discovery import DiscoveryError, Publish, Sleep
from lb.discovery.resolve import RESOLVE_INTERVAL, NameTable, Publisher, Resolve, explain_failures, resolve_name

log = logging.getLogger(__name__)


class StaticSource:
    """Publishes the endpoints that `backends` stand for, and again when the addresses behind a name have changed.

    `interval` is in seconds. `resolve` and `sleep` are there for tests.
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        *,
        resolve: Resolve = resolve_name,
        sleep: Sleep = asyncio.sleep,
        interval: float = RESOLVE_INTERVAL,
    ) -> None:
        self._backends = tuple(backends)
        self._names = NameTable(resolve)
        self._sleep = sleep
        self._interval = interval
        self._task: asyncio.Task[None] | None = None

    async def start(self, publish: Publish) -> None:
        """Look the names up and publish. Raise DiscoveryError when there is no endpoint at all."""
        snapshot = await self._names.resolve(self._backends)
        if not snapshot:
            raise DiscoveryError(f"backends: {explain_failures(self._names.failures)}")
        publisher = Publisher(publish)
        publisher.offer(snapshot)
        if not all(backend.is_literal for backend in self._backends):
            self._task = asyncio.create_task(self._keep_resolving(publisher), name="static discovery")

    async def stop(self) -> None:
        """Stop looking names up."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _keep_resolving(self, publisher: Publisher) -> None:
        while True:
            await self._sleep(self._interval)
            try:
                publisher.offer(await self._names.resolve(self._backends))
            except Exception:
                log.exception("looking up the backends' names failed, the last snapshot stays")
