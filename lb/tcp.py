"""SHELL: a client connection in TCP mode (`mode: tcp`): it is given an endpoint, and then it is a tunnel.

A connection is balanced as a request is in HTTP mode: it is one exchange, which finds its endpoint by the same
dispatch, with the same failover as long as no connection is there. Until then what it sends waits in the kernel.
"""

from __future__ import annotations

import asyncio
from typing import cast

from lb.deadline import NEVER
from lb.dispatch import Dispatch
from lb.errors import EndReason
from lb.exchange import Exchange
from lb.flow import NOT_CONNECTED, Flow
from lb.http1.forwarding import Request
from lb.http1.framing import NO_BODY, Framing
from lb.http1.message import RequestHead
from lb.metrics import CONNECTIONS, CONNECTIONS_OPEN, EXCHANGES
from lb.proxy import Proxy
from lb.sockets import reset
from lb.tunnel import Tunnel
from lb.upstream import Upstream

# What dispatch and policies are told of the request: nothing is known of it.
_BYTES = Request(RequestHead(b"", b"", 1, [], []), Framing(NO_BODY), b"")


class TcpDownstream(asyncio.Protocol):
    """A client connection that has no endpoint yet."""

    __slots__ = ("_dispatch", "_early", "_eof", "_exchange", "_flow", "_proxy", "deadline", "filed", "transport")

    transport: asyncio.Transport

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._dispatch = Dispatch(proxy, self)
        self._exchange: Exchange | None = None
        self._flow = Flow()
        self._early = b""
        self._eof = False
        self.deadline = NEVER
        self.filed = NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is here: find it an endpoint. What it sends meanwhile waits in the kernel."""
        self.transport = transport = cast(asyncio.Transport, transport)
        self._flow.couple(transport)
        self._flow.hold(NOT_CONNECTED)
        proxy = self._proxy
        proxy.connections.add(self)
        for counter in (CONNECTIONS, CONNECTIONS_OPEN, EXCHANGES):
            proxy.counters[counter] += 1
        now = proxy.clock()
        self._exchange = exchange = Exchange(_BYTES, now, True)
        peer = transport.get_extra_info("peername")
        exchange.request_id = proxy.new_request_id()
        exchange.client = peer[0].removeprefix("::ffff:").encode() if peer else b"unknown"
        self._dispatch.start(exchange, now)

    def data_received(self, data: bytes) -> None:
        """Keep one read, and stop: uvloop does not heed a pause in connection_made."""
        self._early += data
        self.transport.pause_reading()

    def eof_received(self) -> bool:
        """Keep the FIN for the endpoint. Returns that our side stays open."""
        self._eof = True
        return True

    def set_deadline(self, deadline: float) -> None:
        """Be told when `deadline` has passed; the one before no longer counts."""
        self.deadline = deadline
        if deadline < self.filed:
            self._proxy.file_deadline(self)

    def deadline_passed(self, now: float) -> None:
        """It has waited for an endpoint as long as it may."""
        self.deadline = NEVER
        self._dispatch.deadline_passed()

    def upstream_ready(self, upstream: Upstream, now: float) -> None:
        """An endpoint has taken the connection."""
        exchange, proxy = self._exchange, self._proxy
        assert exchange is not None
        exchange.upstream_ready = now
        self._forget()
        tunnel = Tunnel(proxy, exchange, (self.transport, self._flow), (upstream.transport, Flow()))
        tunnel.start(to_endpoint=self._early, client_fin=self._eof)

    def no_upstream(self, status: int, reason: EndReason, detail: str, retry_after: int | None) -> None:
        """There is none to be had: a reset says that nothing was served."""
        self._end(reason)

    def abort(self) -> None:
        """Stop at once."""
        self._dispatch.cancel()
        self._end(EndReason.DRAIN_CUT)

    def drain(self) -> None:
        """It goes on until it ends or is cut."""

    def eviction_rank(self, *, closely: bool = False) -> None:
        """It is in use."""

    def evict(self) -> None:
        """Close, to make room for another."""
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or was reset by us."""
        if self._exchange is not None:
            self._dispatch.cancel()
            self._end(EndReason.CLIENT_GONE)
        proxy = self._proxy
        self._flow.uncouple()
        self._forget()
        proxy.counters[CONNECTIONS_OPEN] -= 1
        proxy.on_connection_closed()

    def _end(self, reason: EndReason) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._proxy.exchange_ended(exchange, reason, self._proxy.clock(), is_timed=False)
            self._dispatch.finished()
            reset(self.transport)

    def _forget(self) -> None:
        """Nothing of this connection is looked after here any longer."""
        self._exchange = None
        self.deadline = NEVER
        self._proxy.deadlines.remove(self)
        self._proxy.connections.discard(self)
        # The two know each other: without this only the garbage collector could free them.
        del self._dispatch
