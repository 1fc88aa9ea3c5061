"""SHELL: raw bytes both ways between a client and an endpoint: after a 101 response, and in TCP mode.

Each direction ends by itself: a FIN that was read is passed on behind the bytes before it, and the other direction goes
on (half-close). When both have ended, both connections are closed in order. Whatever else ends a tunnel must not look
like a complete stream to anybody: with raw bytes only a reset can say so. So each side is reset, except one that has
been given the other's FIN and all bytes before it: what it has got is complete, and a reset could take it away again.
"""

from __future__ import annotations

import asyncio

from lb.deadline import NEVER
from lb.errors import EndReason
from lb.exchange import Exchange
from lb.flow import ANY_REASON, BACKLOG, NOT_CONNECTED, WRITER_FULL, Flow
from lb.metrics import CONNECTIONS_OPEN, RECEIVED_BYTES, SENT_BYTES
from lb.progress import LOOKS, Progress
from lb.proxy import Proxy
from lb.sockets import expect_acks, reset, unsent_bytes

# A read of so many bytes is one of many: what follows goes through the kernel, and is looked at again after that.
_BULK_READ = 65536
_SPLICED_BYTES = 8 * 1024 * 1024
_LINGER_SECONDS = 1.0


class Side(asyncio.Protocol):
    """One of a tunnel's two connections."""

    __slots__ = ("_tunnel", "fin", "flow", "is_lost", "other", "transport")

    other: Side

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport, flow: Flow) -> None:
        self._tunnel = tunnel
        self.transport = transport
        self.flow = flow
        """What is read here and written to the other side."""
        self.fin = False
        """Was its FIN read, and passed on?"""
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        """Pass bytes on, unless nobody is there to take them."""
        other = self.other
        if other.is_lost:
            return
        tunnel = self._tunnel
        tunnel.moved()
        tunnel.count(self, len(data))
        tunnel.outbox.write(other.transport, data)
        if len(data) >= _BULK_READ:
            tunnel.outbox.flush()
            self.flow.splice(other.transport, _SPLICED_BYTES)

    def spliced(self, count: int) -> None:
        """Bytes were passed on without us."""
        self._tunnel.moved()
        self._tunnel.count(self, count)

    def eof_received(self) -> bool:
        """Pass the FIN on. Returns that our side stays open."""
        self.fin = True
        self._tunnel.fin_received(self)
        return True

    def pause_writing(self) -> None:
        """This side reads more slowly than the other sends."""
        self.other.flow.hold(WRITER_FULL)

    def resume_writing(self) -> None:
        """It has caught up."""
        self.other.flow.release(WRITER_FULL)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed, by either end of it."""
        self.is_lost = True
        self.flow.uncouple()
        self._tunnel.side_lost(self, exc)


class Tunnel:
    """Two connections that pass on each other's bytes, as the last thing of `exchange`."""

    __slots__ = (
        "_client",
        "_endpoint",
        "_exchange",
        "_idle",
        "_look_at",
        "_progress",
        "_proxy",
        "_reason",
        "deadline",
        "filed",
        "outbox",
    )

    def __init__(
        self,
        proxy: Proxy,
        exchange: Exchange,
        client: tuple[asyncio.Transport, Flow],
        endpoint: tuple[asyncio.Transport, Flow],
    ) -> None:
        """`client` and `endpoint` are transports, each with the flow that it feeds."""
        self._proxy = proxy
        self._exchange = exchange
        self._client = Side(self, *client)
        self._endpoint = Side(self, *endpoint)
        self._client.other, self._endpoint.other = self._endpoint, self._client
        self._reason: EndReason | None = None
        self._progress = Progress()
        self._look_at = NEVER
        self._idle = proxy.config.tunnel_idle_timeout
        self.outbox = proxy.outbox
        self.deadline = NEVER
        self.filed = NEVER

    def start(self, *, to_client: bytes = b"", to_endpoint: bytes = b"", client_fin: bool = False) -> None:
        """Take the connections over; pass on first what was read of them already, and the client's FIN, if it came."""
        client, endpoint = self._client, self._endpoint
        self._exchange.received = self._exchange.sent = 0
        self.count(client, len(to_endpoint))
        self.count(endpoint, len(to_client))
        self._proxy.connections.add(self)
        self.moved()
        self._proxy.file_deadline(self)
        # Either may hold up the other for as long as it wants.
        expect_acks(endpoint.transport, 0.0)
        for side, early in ((client, to_endpoint), (endpoint, to_client)):
            side.transport.set_protocol(side)
            side.flow.couple(side.transport)
            side.flow.release(BACKLOG | NOT_CONNECTED)
            if early:
                self.outbox.write(side.other.transport, early)
        if client_fin:
            client.eof_received()

    def moved(self) -> None:
        """Bytes were passed on: it is not idle."""
        clock = self._proxy.clock
        self.deadline = clock() + self._idle

    def count(self, side: Side, count: int) -> None:
        """`count` bytes from `side` were passed on."""
        if side is self._client:
            self._exchange.received += count
            self._proxy.counters[RECEIVED_BYTES] += count
        else:
            self._exchange.sent += count
            self._proxy.counters[SENT_BYTES] += count

    def fin_received(self, side: Side) -> None:
        """`side` has sent all that it had."""
        other = side.other
        self.outbox.flush()
        if not other.fin:
            self.moved()
            if not other.transport.is_closing():
                other.transport.write_eof()
            return
        # Both have. What is still on its way must be taken in the time that a body has.
        self._idle = self._proxy.config.body_idle_timeout
        self.moved()
        self._proxy.file_deadline(self)
        side.transport.close()
        other.transport.close()

    def side_lost(self, side: Side, exc: Exception | None) -> None:
        """One connection is closed."""
        other = side.other
        proxy = self._proxy
        is_complete = side.fin and other.fin
        if self._reason is None and (exc is not None or not is_complete):
            self._reason = EndReason.CLIENT_GONE if side is self._client else EndReason.RESET_IN_BODY
        if side is self._client:
            proxy.counters[CONNECTIONS_OPEN] -= 1
        else:
            proxy.upstream_gone(self._exchange.slot)
        if not other.is_lost:
            if not is_complete:
                if side.fin and unsent_bytes(other.transport):
                    self._linger(other)
                else:
                    _end(other)
            return
        proxy.exchange_ended(self._exchange, self._reason or EndReason.OK, proxy.clock(), is_timed=False)
        if self._reason is None and getattr(self._exchange, "attempts", None) is not None:
            # As every other that went well, but not at once.
            proxy.history.remember(self._exchange)
        proxy.deadlines.remove(self)
        self.deadline = NEVER
        # They know each other: without this only the garbage collector could free them.
        del side.other, other.other, self._client, self._endpoint
        proxy.connections.discard(self)
        proxy.on_connection_closed()

    def _linger(self, side: Side) -> None:
        """`side` is still taking the last of a complete stream, which nobody is there to answer any more.

        Closed now, its next byte would make a reset of that: what it sends is read and dropped instead.
        """
        side.flow.unsplice()
        side.flow.release(ANY_REASON)
        self._idle = self._proxy.config.body_idle_timeout
        self.deadline = self._look_at = self._proxy.clock() + min(_LINGER_SECONDS, self._idle / LOOKS)
        self._proxy.file_deadline(self)

    def deadline_passed(self, now: float) -> None:
        """Nothing was read for as long as that may be: cut it, unless a slow reader goes on taking what was."""
        if self.deadline != self._look_at:
            # Something was read since the last look.
            self._progress.piece_passed()
        unsent = sum(unsent_bytes(side.transport) for side in (self._client, self._endpoint) if not side.is_lost)
        if unsent and self._progress.looked(unsent, now) < self._idle:
            self.deadline = self._look_at = now + self._idle / LOOKS
        else:
            self.deadline = NEVER
            self._cut(EndReason.TUNNEL_IDLE)

    def drain(self) -> None:
        """It goes on until it ends or is cut."""

    def eviction_rank(self, *, closely: bool = False) -> None:
        """It is in use."""

    def evict(self) -> None:
        """Close, to make room for another."""
        self.abort()

    def abort(self) -> None:
        """Stop at once."""
        self._cut(EndReason.DRAIN_CUT)

    def _cut(self, reason: EndReason) -> None:
        if self._reason is None:
            self._reason = reason
        self.outbox.flush()
        for side in (self._client, self._endpoint):
            if not side.is_lost:
                _end(side)


def _end(side: Side) -> None:
    """End a connection: in order if what it was sent is complete, else with a reset."""
    if side.other.fin and not side.transport.get_write_buffer_size():
        side.transport.close()
    else:
        reset(side.transport)
