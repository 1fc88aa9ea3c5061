"""An API server in the test's hands, on the near side of HTTP, and time that passes only in pauses."""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest
from kubernetes.client.configuration import Configuration

from lb.config import Config
from lb.discovery import kubernetes
from lb.discovery.apiserver import Place
from lb.discovery.interrupter import InterruptedByStop, Interrupter
from lb.discovery.kubernetes import KubernetesSource
from lb.discovery.status import SyncStatus
from lb.discovery.watcher import Failure, StatusError
from lb.endpoint import Snapshot
from tests.fakes import DEADLINE

OPEN: list[bytes] = []
"""The server accepts a watch."""


class _End:
    pass


END = _End()
"""The server ends a watch in order."""
_STOP = _End()


class Asked(NamedTuple):
    """What the API server was asked."""

    path: str
    parameters: Mapping[str, str]
    read_seconds: float

    @property
    def is_watch(self) -> bool:
        return "watch" in self.parameters


def page(*items: Any, version: str = "100", token: str = "") -> bytes:
    metadata = {"resourceVersion": version} | ({"continue": token} if token else {})
    return b'{"metadata":%b,"items":[%b]}' % (json.dumps(metadata).encode(), b",".join(map(bytes, items)))


def line(kind: str, item: Any) -> bytes:
    return b'{"type":"%b","object":%b}' % (kind.encode(), bytes(item))


class FakeServer:
    """Stands in for ApiServer. Each question takes the next answer of `answers`, and waits for one."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: queue.Queue[Any] = queue.Queue()
        self.url = "https://fake"
        self.closed = 0

    def close(self) -> None:
        self.closed += 1

    def get(self, path: str, parameters: Mapping[str, str], read_seconds: float) -> bytes:
        self.asked.append(Asked(path, dict(parameters), read_seconds))
        return bytes(self._take())

    def stream(self, path: str, parameters: Mapping[str, str], read_seconds: float) -> Iterator[list[bytes]]:
        self.asked.append(Asked(path, dict(parameters), read_seconds))
        while (answer := self._take()) is not END:
            yield answer

    def has_more(self) -> bool:
        return False

    def _take(self) -> Any:
        answer = self.answers.get(timeout=2 * DEADLINE)
        if answer is _STOP:
            raise InterruptedByStop
        if isinstance(answer, Failure):
            raise StatusError(answer)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Rig:
    """A source, the server that it asks, and what it published."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **config: Any) -> None:
        self.server = FakeServer()
        self.now = 1000.0
        self.pauses: list[float] = []
        self.places: list[Place | Exception] = []
        """What is found when the credentials are read again; the last one stays."""
        self.found = 0
        self.published: list[Snapshot] = []
        self.status = SyncStatus()
        monkeypatch.setattr(kubernetes, "find_server", self._find)
        monkeypatch.setattr(kubernetes, "ApiServer", lambda configuration, interrupter: self.server)
        settings = {"discovery": "kubernetes", "namespace": "shop", "startup_timeout": DEADLINE}
        self.source = KubernetesSource(Config(**(settings | config)), self.status, environ={}, clock=lambda: self.now)
        self._interrupter: Interrupter = self.source._interrupter
        self._stop_waiting = self._interrupter.stop
        monkeypatch.setattr(self._interrupter, "pause", self._pause)
        monkeypatch.setattr(self._interrupter, "stop", self._stop)

    def _find(self, kubeconfig: str | None, environ: Mapping[str, str]) -> Place:
        self.found += 1
        if not self.places:
            return Place(Configuration(), "of-the-credentials")
        place = self.places.pop(0) if len(self.places) > 1 else self.places[0]
        if isinstance(place, Exception):
            raise place
        return place

    def _pause(self, seconds: float) -> None:
        if self._interrupter.is_stopping:
            raise InterruptedByStop
        self.pauses.append(seconds)
        self.now += seconds

    def _stop(self) -> None:
        self._stop_waiting()
        self.server.answers.put(_STOP)

    def answer(self, *answers: Any) -> None:
        """Give these answers, one after the other."""
        for answer in answers:
            self.server.answers.put(answer)

    async def start(self, *answers: Any) -> None:
        self.answer(*answers)
        await self.source.start(self.published.append)

    async def asked(self, count: int) -> Asked:
        """Wait until so many questions were asked, and return the last of them."""
        await until(lambda: len(self.server.asked) >= count)
        return self.server.asked[count - 1]

    @property
    def names(self) -> list[str]:
        """What was published: the names of those that are ready."""
        return [" ".join(e.name for e in snapshot if e.ready) for snapshot in self.published]

    async def until_published(self, *names: str) -> None:
        await until(lambda: self.names == list(names))


async def until(condition: Callable[[], object]) -> None:
    """Return as soon as `condition` holds; fail if it does not."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)


MakeRig = Callable[..., Rig]


def logged(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= level]


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return logged(caplog, logging.WARNING)
