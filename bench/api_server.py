"""A small API server for the benchmark: one Service's EndpointSlices, listed and watched, changing at a rate.

`python -m bench.api_server PORT` answers on 127.0.0.1 until the process is ended:

    GET  /                          200, to see that it is there
    GET  …/endpointslices           the list; with `watch` in the query the changes, and bookmarks if asked for
    PUT  /bench/endpoints           a JSON list of "address:port", before anybody watches
    PUT  /bench/events-per-second   how often a slice changes, while somebody watches
    GET  /bench/events              how many changes there were

It is no Kubernetes: nobody is asked for credentials, and the only thing that ever happens to an endpoint is that it is
not ready, and with the next change is again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bench.proc import HOST

SLICE_ENDPOINTS = 100
"""So many endpoints to a slice, as in Kubernetes."""
SERVICE, NAMESPACE = "bench", "bench"
_BOOKMARK_BEFORE_END = 2.0
_QUEUED_LINES = 64
"""A watch that is so far behind holds the changes up: they are fewer then, and no memory fills."""
_VERSION = '"VERSION"'
"""Stands for the resourceVersion in what is made ahead."""

Line = Callable[[int], bytes]


class Slices:
    """The slices of the Service and their changes. Every change has a version of its own."""

    def __init__(self) -> None:
        self.version = 1
        self.changes = 0
        self._slices: list[list[tuple[str, int]]] = []
        self._current: list[dict[str, Any]] = []
        self._made: dict[tuple[int, int | None], tuple[dict[str, Any], Line]] = {}
        """What was sent before is not made again: at a thousand a second that would take half of the core."""

    def replace(self, endpoints: Sequence[str]) -> None:
        """Let these be the endpoints, all of them ready. A slice has one port for all, that of its first endpoint."""
        pairs = [(address, int(port)) for address, _, port in (each.rpartition(":") for each in endpoints)]
        self._slices = [pairs[i : i + SLICE_ENDPOINTS] for i in range(0, len(pairs), SLICE_ENDPOINTS)]
        self.version += 1
        self._current = [self._slice(index, None) for index in range(len(self._slices))]
        self._made = {}

    def listed(self) -> bytes:
        """The body of a list."""
        metadata = {"resourceVersion": str(self.version)}
        head = {"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "metadata": metadata}
        return json.dumps({**head, "items": self._current}).replace(_VERSION, f'"{self.version}"').encode()

    def change(self) -> bytes:
        """One more change: the line that a watch has of it. They go round: not ready, ready, the next endpoint."""
        number, is_ready_again = divmod(self.changes, 2)
        index = number % len(self._slices)
        self.changes += 1
        self.version += 1
        unready = None if is_ready_again else number // len(self._slices) % len(self._slices[index])
        if (index, unready) not in self._made:
            made = self._slice(index, unready)
            self._made[index, unready] = made, _template("MODIFIED", made)
        self._current[index], line = self._made[index, unready]
        return line(self.version)

    def missed(self, version: str) -> list[bytes]:
        """What a watch from an older version has to be told: how every slice is now."""
        if version == str(self.version):
            return []
        return [_template("MODIFIED", current)(self.version) for current in self._current]

    def bookmark(self) -> bytes:
        """A line that says how far the watch is."""
        return _template("BOOKMARK", {"kind": "EndpointSlice", "metadata": {"resourceVersion": "VERSION"}})(
            self.version
        )

    def _slice(self, index: int, unready: int | None) -> dict[str, Any]:
        pairs = self._slices[index]
        return {
            "kind": "EndpointSlice",
            "apiVersion": "discovery.k8s.io/v1",
            "metadata": {
                "name": f"{SERVICE}-{index}",
                "namespace": NAMESPACE,
                "resourceVersion": "VERSION",
                "labels": {"kubernetes.io/service-name": SERVICE},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": pairs[0][1], "protocol": "TCP"}],
            "endpoints": [
                {
                    "addresses": [address],
                    "conditions": {"ready": at != unready, "serving": at != unready, "terminating": False},
                    "nodeName": "node",
                    "zone": "zone",
                    "targetRef": {
                        "kind": "Pod",
                        "namespace": NAMESPACE,
                        "name": f"{SERVICE}-{index}-{at}",
                        "uid": f"{SERVICE}-uid-{index}-{at}",
                    },
                }
                for at, (address, _) in enumerate(pairs)
            ],
        }


def _template(kind: str, item: dict[str, Any]) -> Line:
    before, after = json.dumps({"type": kind, "object": item}).split(_VERSION)
    return lambda version: f'{before}"{version}"{after}\n'.encode()


class ApiServer:
    """Answers the questions of one podlb, or of several."""

    def __init__(self) -> None:
        self._slices = Slices()
        self._watches: set[asyncio.Queue[bytes]] = set()
        self._rate = 0.0
        self._changing: asyncio.Task[None] | None = None

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer on one connection until the client ends it."""
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                method, target, _ = head.split(" ", 2)
                fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                body = await reader.readexactly(int(fields.get("content-length", "0")))
                await self._answer(writer, method, target, body)

    async def _answer(self, writer: asyncio.StreamWriter, method: str, target: str, body: bytes) -> None:
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path.endswith("/endpointslices") and query.get("watch"):
            await self._watch(writer, query)
            return
        status, text = "200 OK", b"{}"
        if url.path.endswith("/endpointslices"):
            text = self._slices.listed()
        elif (method, url.path) == ("PUT", "/bench/endpoints"):
            if self._watches:
                status, text = "409 Conflict", b'{"message": "they are being watched"}'
            else:
                self._slices.replace(json.loads(body))
        elif (method, url.path) == ("PUT", "/bench/events-per-second"):
            self._change_at(float(body))
        elif url.path == "/bench/events":
            text = str(self._slices.changes).encode()
        elif url.path != "/":
            status, text = "404 Not Found", b'{"message": "there is nothing but EndpointSlices here"}'
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
        writer.write(head.encode() + text)
        await writer.drain()

    async def _watch(self, writer: asyncio.StreamWriter, query: dict[str, str]) -> None:
        queue: asyncio.Queue[bytes] = asyncio.Queue(_QUEUED_LINES)
        end = asyncio.get_running_loop().time() + float(query.get("timeoutSeconds", "60"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        for line in self._slices.missed(query.get("resourceVersion", "")):
            writer.write(_chunk(line))
        self._watches.add(queue)
        try:
            if query.get("allowWatchBookmarks"):
                await self._send_until(end - _BOOKMARK_BEFORE_END, queue, writer)
                writer.write(_chunk(self._slices.bookmark()))
            await self._send_until(end, queue, writer)
        finally:
            self._watches.remove(queue)
            while not queue.empty():  # whoever waits to put a line is let go on
                queue.get_nowait()
        writer.write(_chunk(b""))
        await writer.drain()

    async def _send_until(self, end: float, queue: asyncio.Queue[bytes], writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(end):
                while True:
                    await writer.drain()
                    writer.write(_chunk(await queue.get()))

    def _change_at(self, rate: float) -> None:
        if self._changing is not None:
            self._changing.cancel()
        self._changing = asyncio.get_running_loop().create_task(self._change(rate)) if rate > 0 else None

    async def _change(self, rate: float) -> None:
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            due = max(due + 1 / rate, clock() - 1.0)  # what was held up for longer is not made up for
            await asyncio.sleep(due - clock())
            if self._watches:
                line = self._slices.change()
                for queue in list(self._watches):
                    await queue.put(line)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def serve(port: int) -> None:
    """Answer until the process is ended."""
    server = await asyncio.start_server(ApiServer().connected, HOST, port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
