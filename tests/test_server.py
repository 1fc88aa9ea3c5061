"""The composition root: which source, when it is ready, and how a start fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lb.config import Config
from lb.discovery import DiscoveryError, Publish
from lb.discovery.file import FileSource
from lb.discovery.kubernetes import KubernetesSource
from lb.discovery.static import StaticSource
from lb.discovery.status import SyncStatus
from lb.endpoint import make_endpoint
from lb.server import Server, StartError, make_source
from tests.fakes import DEADLINE

A = make_endpoint("10.0.0.1", 80)
SOON = 0.05


class Source:
    """Publishes, or fails, when the test says so."""

    def __init__(self) -> None:
        self.publish: Publish
        self.is_stopped = False
        self.has_begun = asyncio.Event()
        self.goes_on: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self, publish: Publish) -> None:
        self.publish = publish
        self.has_begun.set()
        await self.goes_on

    async def stop(self) -> None:
        self.is_stopped = True


def config(**settings: Any) -> Config:
    return Config(**({"host": "127.0.0.1", "port": 0, "admin_port": None, "discovery": "kubernetes"} | settings))


def new_server(source: Source, **settings: Any) -> Server:
    return Server(config(**settings), asyncio.get_running_loop(), source=source)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"discovery": "static", "backends": ("10.0.0.1:80",)}, StaticSource),
        ({"discovery": "file", "backends_file": "/etc/backends.json"}, FileSource),
        ({"discovery": "kubernetes"}, KubernetesSource),
    ],
)
def test_the_source_is_the_one_that_is_configured(settings: dict[str, Any], kind: type) -> None:
    sync = SyncStatus() if settings["discovery"] == "kubernetes" else None
    assert type(make_source(Config(**settings), sync)) is kind


@pytest.mark.asyncio
class TestReadiness:
    async def test_not_before_a_complete_list_and_then_until_it_stops(self) -> None:
        source = Source()
        server = new_server(source)
        assert server._readiness() == (False, "no complete list of endpoints yet")
        starting = asyncio.create_task(server.start())
        await source.has_begun.wait()
        assert server._readiness()[0] is False
        assert server.listener is not None
        source.publish((A,))
        source.goes_on.set_result(None)
        await starting
        assert server._readiness() == (True, "ok")
        # Losing everything is no reason for kubelet to take it out: who asks is told 503.
        source.publish(())
        assert server._readiness() == (True, "ok")
        server.stop()
        assert server._readiness() == (False, "stopping")
        await server.run()
        assert source.is_stopped

    async def test_an_empty_list_is_complete(self) -> None:
        source = Source()
        server = new_server(source)
        starting = asyncio.create_task(server.start())
        await source.has_begun.wait()
        source.publish(())
        source.goes_on.set_result(None)
        await starting
        assert server._readiness() == (True, "ok")
        await server.close()


@pytest.mark.asyncio
class TestStart:
    async def test_a_source_that_fails_is_a_start_that_fails_with_its_words(self) -> None:
        source = Source()
        server = new_server(source)
        source.goes_on.set_exception(DiscoveryError("no permission to list: grant it"))
        with pytest.raises(StartError, match=r"^no permission to list: grant it$"):
            await server.start()
        await server.close()
        assert source.is_stopped

    async def test_the_source_of_kubernetes_keeps_the_time_itself(self) -> None:
        # It may have a snapshot to serve when the time is over.
        source = Source()
        server = new_server(source, startup_timeout=SOON)
        starting = asyncio.create_task(server.start())
        done, _ = await asyncio.wait([starting], timeout=4 * SOON)
        assert not done
        source.publish((A,))
        source.goes_on.set_result(None)
        await asyncio.wait_for(starting, DEADLINE)
        await server.close()

    async def test_who_is_asked_to_stop_meanwhile_does_not_wait_for_endpoints(self) -> None:
        source = Source()
        server = new_server(source)
        starting = asyncio.create_task(server.start())
        await source.has_begun.wait()
        server.stop()
        await asyncio.wait_for(starting, DEADLINE)
        assert not server.has_started
        assert source.goes_on.cancelled()
        assert server._readiness() == (False, "stopping")
        await server.close()
        assert source.is_stopped

    async def test_for_another_one_the_time_is_kept(self) -> None:
        server = new_server(Source(), startup_timeout=SOON, discovery="static")
        with pytest.raises(StartError, match="within startupTimeout"):
            await server.start()
        await server.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("panic", [True, False])
async def test_the_key_panic(panic: bool) -> None:
    source = Source()
    server = new_server(source, panic=panic)
    server.proxy.replace((A,))
    server.proxy.replace((A._replace(ready=False, was_ready=True),))
    assert server.proxy.service.is_panicking is panic
    await server.close()
