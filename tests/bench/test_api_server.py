from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.api_server import SLICE_ENDPOINTS, ApiServer, Slices
from bench.peers import PEERS, Setting
from bench.peers.podlb_kubernetes import Cluster, beside_api_server, kubeconfig
from bench.proc import BenchError, Process, free_ports
from lb.discovery.endpointslice import NOT_READY, READY, parse_slice
from lb.discovery.watcher import read_event, read_page


def slices(count: int) -> Slices:
    found = Slices()
    found.replace([f"127.1.{i // 250}.{i % 250 + 1}:8080" for i in range(count)])
    return found


def states(line: bytes) -> list[str]:
    return [member.state for member in parse_slice(read_event(line).item, "http").members]


def test_podlb_reads_every_endpoint_of_the_list() -> None:
    page = read_page(slices(SLICE_ENDPOINTS + 20).listed())
    parsed = [parse_slice(item, "http") for item in page.items]
    assert page.version == "2"
    assert [len(each.members) for each in parsed] == [100, 20]
    assert {(member.state, member.key[2]) for each in parsed for member in each.members} == {(READY, 8080)}
    assert len({member.key for each in parsed for member in each.members}) == 120
    assert [each.problems for each in parsed] == [(), ()]


def test_with_every_change_one_endpoint_goes_or_comes_back() -> None:
    changing = slices(2)
    lines = [changing.change() for _ in range(6)]
    assert [states(line) for line in lines] == [
        *([NOT_READY, READY], [READY, READY], [READY, NOT_READY]),
        *([READY, READY], [NOT_READY, READY], [READY, READY]),
    ]
    assert [read_event(line).version for line in lines] == ["3", "4", "5", "6", "7", "8"]
    assert changing.changes == 6


def test_every_slice_changes_in_turn() -> None:
    changing = slices(SLICE_ENDPOINTS * 3)
    names = [parse_slice(read_event(changing.change()).item, "http").name for _ in range(8)]
    assert names == ["bench-0", "bench-0", "bench-1", "bench-1", "bench-2", "bench-2", "bench-0", "bench-0"]


def test_an_older_watch_is_told_how_every_slice_is_and_the_list_as_well() -> None:
    changing = slices(SLICE_ENDPOINTS + 1)
    assert changing.missed(str(changing.version)) == []
    changing.change()
    assert [states(line).count(NOT_READY) for line in changing.missed("2")] == [1, 0]
    [first, _] = read_page(changing.listed()).items
    assert [member.state for member in parse_slice(first, "http").members].count(NOT_READY) == 1


class Client:
    """One connection to an API server in this loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, method: str, target: str, body: str = "") -> str:
        request = f"{method} {target} HTTP/1.1\r\nHost: it\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        self._writer.write(request.encode())
        return (await self._reader.readuntil(b"\r\n\r\n")).decode()

    async def whole(self, method: str, target: str, body: str = "") -> tuple[int, bytes]:
        head = await self.ask(method, target, body)
        length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
        return int(head.split()[1]), await self._reader.readexactly(length)

    async def line(self) -> dict[str, Any] | None:
        """The next line of a watch, each being a chunk; None at its end."""
        length = int(await self._reader.readline(), 16)
        data = await self._reader.readexactly(length)
        assert await self._reader.readline() == b"\r\n"
        return json.loads(data) if data else None


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[Client, Client]]:
    """Two connections to one server."""
    api_server, answering = ApiServer(), []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.append(asyncio.current_task())
        await api_server.connected(reader, writer)

    async with asyncio.timeout(8):
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        pairs = [await asyncio.open_connection(*address) for _ in range(2)]
        try:
            first, second = (Client(*pair) for pair in pairs)
            yield first, second
        finally:
            for _, writer in pairs:
                writer.close()
            server.close()
            for task in answering:
                task.cancel()
            await asyncio.gather(*answering, return_exceptions=True)


LIST = "/apis/discovery.k8s.io/v1/namespaces/bench/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dbench"
ENDPOINTS = json.dumps(["127.0.0.1:8080"])


@pytest.mark.asyncio
async def test_a_watch_ends_when_it_is_to_with_a_bookmark_before() -> None:
    async with connected() as (client, _):
        assert await client.whole("PUT", "/bench/endpoints", ENDPOINTS) == (200, b"{}")
        status, body = await client.whole("GET", LIST)
        assert (status, json.loads(body)["metadata"]["resourceVersion"]) == (200, "2")
        await client.ask("GET", f"{LIST}&watch=1&resourceVersion=2&allowWatchBookmarks=true&timeoutSeconds=0")
        bookmark = await client.line()
        assert bookmark is not None
        assert (bookmark["type"], bookmark["object"]["metadata"]["resourceVersion"]) == ("BOOKMARK", "2")
        assert await client.line() is None
        # The connection goes on; without being asked there is no bookmark; an older version is brought up to date.
        await client.ask("GET", f"{LIST}&watch=1&resourceVersion=1&timeoutSeconds=0")
        caught_up = await client.line()
        assert caught_up is not None
        assert caught_up["type"] == "MODIFIED"
        assert await client.line() is None


@pytest.mark.asyncio
async def test_changes_come_while_somebody_watches_and_are_counted() -> None:
    async with connected() as (watching, client):
        await client.whole("PUT", "/bench/endpoints", ENDPOINTS)
        await client.whole("PUT", "/bench/events-per-second", "500")
        assert await client.whole("GET", "/bench/events") == (200, b"0")
        await watching.ask("GET", f"{LIST}&watch=1&resourceVersion=2&timeoutSeconds=60")
        versions = []
        for _ in range(5):
            line = await watching.line()
            assert line is not None
            versions.append(line["object"]["metadata"]["resourceVersion"])
        assert versions == ["3", "4", "5", "6", "7"]
        assert await client.whole("PUT", "/bench/events-per-second", "0") == (200, b"{}")
        _, changes = await client.whole("GET", "/bench/events")
        assert int(changes) >= 5
        for _ in range(int(changes) - 5):
            await watching.line()
        assert await client.whole("GET", "/bench/events") == (200, changes)
        assert (await client.whole("PUT", "/bench/endpoints", ENDPOINTS))[0] == 409


@pytest.mark.asyncio
async def test_anything_else_is_not_there() -> None:
    async with connected() as (client, _):
        assert await client.whole("GET", "/") == (200, b"{}")
        assert (await client.whole("GET", "/api/v1/namespaces/bench/pods"))[0] == 404


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    port, admin_port, backend = free_ports(3)
    return Setting(port, admin_port, (f"127.0.0.1:{backend}",), tmp_path)


def test_without_an_api_server_it_says_what_it_lacks(setting: Setting) -> None:
    with pytest.raises(BenchError, match="podlb-kubernetes can't be started without an API server"):
        PEERS["podlb-kubernetes"].argv(setting)
    (port,) = free_ports(1)
    with pytest.raises(BenchError, match=r"does not answer GET /bench/events: ConnectionRefusedError"):
        Cluster(port).events()


def test_the_kubeconfig_names_the_server_and_no_credentials() -> None:
    found = json.loads(kubeconfig(18080))
    assert found["clusters"][0]["cluster"] == {"server": "http://127.0.0.1:18080"}
    assert found["users"][0]["user"] == {}


@contextlib.contextmanager
def following(setting: Setting) -> Iterator[Cluster]:
    """podlb before a backend that it found by way of an API server."""
    backend = int(setting.backends[0].rpartition(":")[2])
    with contextlib.ExitStack() as stack:
        argv = [sys.executable, "-m", "bench.fallback_backend", str(backend)]
        stack.enter_context(Process("the backend", argv, None, setting.directory / "backend")).wait_until_answers(
            backend
        )
        cluster = stack.enter_context(beside_api_server(None))
        process = Process("podlb", cluster.peer.argv(setting), None, setting.directory / "podlb")
        stack.enter_context(process).wait_until_answers(setting.port)
        yield cluster


@pytest.mark.slow
def test_podlb_follows_the_changes_of_the_server(setting: Setting) -> None:
    with following(setting) as cluster:
        assert cluster.events() == 0
        cluster.change(200)
        while cluster.events() < 20:
            pass
        cluster.change(0)
        with urllib.request.urlopen(f"http://127.0.0.1:{setting.port}/", timeout=5) as response:
            assert response.status == 200
        with urllib.request.urlopen(f"http://127.0.0.1:{setting.admin_port}/endpoints", timeout=5) as response:
            assert setting.backends[0].rpartition(":")[2] in response.read().decode()
