"""The load of the drills: open loop, one process, every answer checked to its last byte.

Requests leave on a fixed schedule whatever became of those before, and a latency counts from the instant at which its
request was to leave: a balancer that stands still can't slow the load down and so hide that it did. Nothing is sent
twice. Half of the requests share connections that are kept, half have one of their own; half are GET, half POST; half
ask for 64 KiB, of these half chunked. Every target carries an id of its own, which the backends log at delivery.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import h11

from backend.parameters import FILLER_LIMIT, filler

RATE = 200.0
"""Requests per second."""
SERVICE_TIME = "20ms"
"""How long a backend takes, so that something is always in flight."""
LARGE = 65536
BODY = b"0123456789" * 10
"""What a POST carries."""
PATIENCE = 15.0
"""Seconds after which a client gives up: beyond everything that a drill allows, so that a hang is seen as one."""
IDLE_LIMIT = 4.0
"""Seconds for which a kept connection is used again: below the 5 s after which common servers, and our draining
backends, close. Whoever closes an idle connection first never sends a request on a closed one."""

_LARGE_BODY = b"".join(filler(at, min(FILLER_LIMIT, LARGE - at)) for at in range(0, LARGE, FILLER_LIMIT))


class Kind(StrEnum):
    """What became of a request."""

    OK = "2xx"
    STATUS = "status"
    """A whole answer, but not 2xx."""
    REFUSED = "no connection"
    LOST = "no answer"
    """The connection ended before the first byte of the answer."""
    TIMEOUT = "time-out"
    TRUNCATED = "truncated"
    """Cut, or silent for good, after the first byte: seen as such by the client."""
    WRONG = "wrong"
    """It looks complete, but is not what was asked for: this must never be."""


@dataclass(slots=True)
class Request:
    """One request and what became of it. Instants are on the monotonic clock; 0.0: not yet."""

    id: str
    method: str
    is_kept: bool
    is_large: bool
    is_chunked: bool
    due: float
    """When it was to leave."""
    written: float = 0.0
    first_byte: float = 0.0
    ended: float = 0.0
    kind: Kind | None = None
    status: int = 0
    retry_after: str = ""
    detail: str = ""

    @property
    def target(self) -> str:
        load = f"id={self.id}&delay={SERVICE_TIME}"
        if not self.is_large:
            return f"/echo?{load}"
        return f"/data?{load}&size={LARGE}" + "&chunked=1" * self.is_chunked

    @property
    def latency(self) -> float:
        return self.ended - self.due

    @property
    def outcome(self) -> str:
        """What became of it, in a word for people."""
        return str(self.status) if self.kind is Kind.STATUS else str(self.kind or "under way")


def plan(prefix: str, number: int, due: float) -> Request:
    """The request of that number: sixteen in a row have every mixture."""
    return Request(
        id=f"{prefix}-{number:06d}",
        method="POST" if number & 2 else "GET",
        is_kept=not number & 1,
        is_large=bool(number & 4),
        is_chunked=bool(number & 4 and number & 8),
        due=due,
    )


def flaw(request: Request, body: bytes) -> str:
    """What is wrong with the body of a 2xx answer that looks complete; empty if nothing is."""
    if request.is_large:
        if len(body) != LARGE:
            return f"{len(body)} bytes instead of {LARGE}"
        return "" if body == _LARGE_BODY else "other bytes than the backend's"
    try:
        echo = json.loads(body)
        seen = (echo["method"], echo["target"], echo["bodyLength"])
    except (ValueError, KeyError, TypeError):
        return f"not an echo: {body[:60]!r}"
    sent = (request.method, request.target, len(BODY) if request.method == "POST" else 0)
    return "" if seen == sent else f"the answer to another request: {seen}"


class _Connection(asyncio.Protocol):
    """A connection to the balancer, with one request at a time."""

    _transport: asyncio.Transport

    def __init__(self, load: Load, request: Request) -> None:
        self._load = load
        self._request: Request | None = request
        self._http = h11.Connection(h11.CLIENT)
        self._body = bytearray()
        self.idle_since = 0.0
        self.is_open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._request is None:
            transport.abort()  # its client gave up in this very turn
        else:
            self._write(self._request)

    def send(self, request: Request) -> None:
        """Send another request on a connection that was kept."""
        self._http.start_next_cycle()
        self._request = request
        self._write(request)

    def _write(self, request: Request) -> None:
        fields = [("Host", self._load.authority)]
        if not request.is_kept:
            fields.append(("Connection", "close"))
        body = BODY if request.method == "POST" else b""
        if body:
            fields.append(("Content-Length", str(len(body))))
        head = self._http.send(h11.Request(method=request.method, target=request.target, headers=fields))
        body = self._http.send(h11.Data(data=body)) if body else b""
        end = self._http.send(h11.EndOfMessage())
        request.written = time.monotonic()
        self._transport.write(head + body + end)

    def data_received(self, data: bytes) -> None:
        request = self._request
        if request is None:
            self._load.unasked += 1
            self.abandon()
            return
        request.first_byte = request.first_byte or time.monotonic()
        self._http.receive_data(data)
        self._read(request)

    def eof_received(self) -> None:
        self.is_open = False
        if (request := self._request) is not None:
            self._http.receive_data(b"")
            self._read(request)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if (request := self._request) is not None:
            self._end(request, Kind.TRUNCATED if request.first_byte else Kind.LOST, repr(exc) if exc else "closed")

    def _read(self, request: Request) -> None:
        """Take what has arrived; the answer may be complete, or broken off, with it."""
        try:
            while True:
                event = self._http.next_event()
                match event:
                    case h11.Response():
                        request.status = event.status_code
                        request.retry_after = next((v.decode() for n, v in event.headers if n == b"retry-after"), "")
                    case h11.Data():
                        self._body += event.data
                    case h11.EndOfMessage():
                        self._complete(request)
                        return
                    case h11.InformationalResponse():
                        pass
                    case h11.ConnectionClosed():
                        self._end(request, Kind.LOST, "closed")
                        return
                    case _:
                        return
        except h11.RemoteProtocolError as error:
            if self.is_open:
                self._end(request, Kind.WRONG, f"not HTTP: {error}")
            else:
                # h11 has no word for a connection that closes without a byte.
                kind, detail = (Kind.TRUNCATED, str(error)) if request.first_byte else (Kind.LOST, "closed")
                self._end(request, kind, detail)

    def _complete(self, request: Request) -> None:
        body = bytes(self._body)
        self._body.clear()
        http = self._http
        kind, detail = Kind.STATUS, body[:200].decode("latin-1") if request.status >= 300 else ""
        if request.status < 300:
            detail = flaw(request, body)
            kind = Kind.WRONG if detail else Kind.OK
        if http.trailing_data[0]:
            kind, detail = Kind.WRONG, "bytes behind the answer"
        is_kept = request.is_kept and self.is_open and http.our_state is http.their_state is h11.DONE
        self._end(request, kind, detail, is_kept=is_kept)

    def _end(self, request: Request, kind: Kind, detail: str, *, is_kept: bool = False) -> None:
        self._request = None
        if is_kept:
            self.idle_since = time.monotonic()
            self._load.keep(self)
        else:
            self.close()
        self._load.ended(request, kind, detail)

    def close(self) -> None:
        self.is_open = False
        self._transport.close()

    def abandon(self) -> None:
        """Give up, whatever is under way."""
        self._request = None
        self.is_open = False
        if hasattr(self, "_transport"):
            self._transport.abort()


class Load:
    """Sends requests from `start` to `stop`, in a thread of its own."""

    def __init__(self, host: str, port: int, prefix: str, *, rate: float = RATE, patience: float = PATIENCE) -> None:
        self.authority = f"{host}:{port}"
        self.requests: list[Request] = []
        """All that were sent, in order."""
        self.unasked = 0
        """Connections on which bytes came that nobody had asked for."""
        self.lateness = 0.0
        """The most seconds by which a request left late: the load generator's own fault."""
        self._host, self._port, self._prefix = host, port, prefix
        self._rate, self._patience = rate, patience
        self._under_way: dict[str, Callable[[], None]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._idle: list[_Connection] = []
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._connecting: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")

    def start(self) -> None:
        self._thread.start()

    def run_on(self, seconds: float) -> None:
        """Return when requests for `seconds` more have left; fail if they don't."""
        wanted = len(self.requests) + math.ceil(seconds * self._rate)
        deadline = time.monotonic() + seconds + self._patience
        while len(self.requests) < wanted:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the load generator stands still")
            time.sleep(0.01)

    def stop(self) -> Sequence[Request]:
        """Send no more; return all requests when each of them has ended."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        return self.requests

    # In the thread

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        begin = time.monotonic()
        number = 0
        while not self._stop.is_set():
            due = begin + number / self._rate
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            self.lateness = max(self.lateness, time.monotonic() - due)
            self._send(plan(self._prefix, number, due))
            number += 1
        while self._under_way:  # each has a timer: this ends
            await asyncio.sleep(0.01)
        for connection in self._idle:
            connection.close()
        # What is closed is let go of in a later turn.
        while self._connecting:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)

    def _send(self, request: Request) -> None:
        self.requests.append(request)
        self._timers[request.id] = self._loop.call_later(self._patience, self._give_up, request)
        connection = self._idle_connection() if request.is_kept else None
        if connection is not None:
            self._under_way[request.id] = connection.abandon
            connection.send(request)
            return
        connection = _Connection(self, request)
        self._under_way[request.id] = connection.abandon
        task = self._loop.create_task(self._connect(connection, request))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: _Connection, request: Request) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await self._loop.create_connection(lambda: connection, self._host, self._port)
        except OSError as error:  # TimeoutError is one
            if request.kind is None:
                self.ended(request, Kind.REFUSED, os.strerror(error.errno) if error.errno else "time-out")

    def _idle_connection(self) -> _Connection | None:
        """The one used last, so that what is not needed grows old."""
        oldest = time.monotonic() - IDLE_LIMIT
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and connection.idle_since > oldest:
                return connection
            connection.close()
        return None

    def keep(self, connection: _Connection) -> None:
        self._idle.append(connection)

    def _give_up(self, request: Request) -> None:
        abandon = self._under_way[request.id]
        kind = Kind.TRUNCATED if request.first_byte else Kind.TIMEOUT if request.written else Kind.REFUSED
        abandon()
        self.ended(request, kind, f"nothing for {self._patience:g} s")

    def ended(self, request: Request, kind: Kind, detail: str) -> None:
        request.ended = time.monotonic()
        request.detail = detail
        request.kind = kind
        del self._under_way[request.id]
        self._timers.pop(request.id).cancel()
