"""SHELL: what all client connections of a process share, and the few timers that serve them.

It is handed to every connection; `server` builds it. The configuration is one reference here, so it can be swapped.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Protocol

from lb.access_logger import AccessLogger
from lb.config import Config
from lb.deadline import NEVER, Deadlines, Timed
from lb.endpoint import Endpoint, Snapshot
from lb.errors import ConnectFailure, EndReason
from lb.eviction import Rank
from lb.exchange import Exchange
from lb.history import History
from lb.http1.forwarding import ForwardingRules
from lb.http1.head import HeadLimits, HeadParser
from lb.http1.readers import RequestReader, ResponseReader
from lb.metrics import ENDED_OK, OPEN, RECEIVED_BYTES, REQUEST_HEADS_READ, RESPONSE_HEADS_READ
from lb.outbox import AnyOutbox, Outbox
from lb.service import Service
from lb.stopwatch import Stopwatch
from lb.upstream import Upstream
from lb.waiting import Waiter

log = logging.getLogger(__name__)

LAST_REQUEST_SECONDS = 1.0
WAKE_SECONDS = 0.01
WAKE_LIMIT = 64
"""Of the requests that wait for an endpoint one goes on at once, then two, four, up to so many every `WAKE_SECONDS`. An
endpoint that returns has often just begun: when all of 580 went on at once the first was answered after 400 ms."""
_POOL_SWEEP = 0.5
_SAMPLE_MASK = 511
_OK = EndReason.OK


class Connection(Timed, Protocol):
    """A client connection, as far as it is looked after here."""

    def drain(self) -> None:
        """No request after the next."""

    def abort(self) -> None:
        """Stop at once."""

    def eviction_rank(self, *, closely: bool = False) -> Rank | None:
        """Return which place it has among those that go to make room, or None: it stays."""

    def evict(self) -> None:
        """Close, to make room for another."""


class Proxy:
    """The state that connections share.

    At most 30 attributes: with one more CPython 3.11 keeps all of them in a dictionary of their own, and a small GET
    takes 2 % more instructions.
    """

    def __init__(
        self,
        config: Config,
        service: Service[Upstream],
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], float],
        id_prefix: bytes,
    ) -> None:
        self.config = config
        self.service = service
        self.counters = service.metrics.values
        self.stopwatch = Stopwatch(service.metrics, clock)
        self.loop = loop
        self.clock = clock
        recogniser = config.parser == "auto"
        limits = HeadLimits(config.max_request_head_bytes, config.max_request_target_bytes, config.max_header_fields)
        rules = ForwardingRules(config.upgrades, trace_key=os.urandom(32) if config.tracing else b"")
        counted = (service.metrics.values, REQUEST_HEADS_READ)
        self.requests = RequestReader(HeadParser(limits, recogniser=recogniser), rules, *counted)
        self.trusted_networks = config.trusted_networks()
        """The networks of proxies in front of us whose X-Forwarded-* are believed."""
        self._trusted_requests = RequestReader(self.requests.parser, rules._replace(trusts_client=True), *counted)
        # An endpoint is trusted with a larger head than a client: it is ours.
        parser = HeadParser(HeadLimits(65536, 8192, 256), recogniser=recogniser)
        self.responses = ResponseReader(parser, rules, service.metrics.values, RESPONSE_HEADS_READ)
        self.deadlines = Deadlines()
        self.splice_from: float = getattr(loop, "splice_from", NEVER)
        """From how many bytes on what is left of a body goes through the kernel alone, where the loop can do that."""
        outbox: AnyOutbox | None = getattr(loop, "outbox", None)
        # That of our own loop goes by the loop's clock.
        self.outbox = outbox if outbox is not None and clock is loop.time else Outbox(loop.call_soon, clock)
        self.outbox.after_flush.append(self.stopwatch.flushed)
        self.connections: set[Connection] = set()
        self.closing = False
        """Do responses say `Connection: close`?"""
        self.is_draining = False
        """Is the listener closed, or about to be? Then idle connections are given `LAST_REQUEST_SECONDS`."""
        self.on_connection_closed: Callable[[], None] = lambda: None
        self.on_exchange_ended: Callable[[Exchange], None] | None = (
            self._exchange_ended if service.policy.learns else None
        )
        """Told of every exchange once, with its four stamps and its end reason; None while nobody wants to know."""
        self.history = History(service, clock)
        self._id_prefix = id_prefix
        self._told_of_panic = False
        self._ids = 0
        self._date = b""
        self._date_second = -1
        self._tick: asyncio.TimerHandle | None = None
        self._tick_at = NEVER
        self._return: asyncio.TimerHandle | None = None
        self._return_at = NEVER
        self._sweep: asyncio.TimerHandle | None = None
        service.on_available = self._wake_waiting

    def head_deadline(self, now: float) -> float:
        """Return until when a request head that begins now must be complete."""
        return now + (self._patience() if self.is_draining else self.config.request_head_timeout)

    def idle_deadline(self, now: float) -> float:
        """Return until when a connection may idle from now on."""
        return now + (self._patience() if self.is_draining else self.config.idle_timeout)

    def _patience(self) -> float:
        # An orderly close comes before the cut at the end of drainTimeout.
        return min(LAST_REQUEST_SECONDS, max(self.config.drain_timeout - 2 * self.deadlines.resolution, 0.0))

    def new_request_id(self) -> bytes:
        """Return an id that no other request has: 16 random hexadecimal digits of this process, then a count."""
        self._ids = ids = self._ids + 1
        if not ids & _SAMPLE_MASK:
            # A few of those that go well are remembered too: the next that ends.
            self.history.is_sampling = True
            self.on_exchange_ended = self._exchange_ended
        return b"%b%08x" % (self._id_prefix, ids)

    def requests_of(self, client: str) -> RequestReader:
        """Return what reads the requests of the client at an IP address."""
        try:
            address = ipaddress.ip_address(client)
        except ValueError:
            return self.requests
        is_trusted = any(address in network for network in self.trusted_networks)
        return self._trusted_requests if is_trusted else self.requests

    def new_upstream(self, endpoint: Endpoint) -> Upstream:
        """Return a connection to `endpoint` that is not connected yet."""
        slot = self.service.metrics.slot(endpoint.key)
        self.counters[slot + OPEN] += 1
        return Upstream(endpoint, slot, self.responses, self)

    @property
    def instance(self) -> str:
        """What tells this process from the one before."""
        return self._id_prefix.decode()

    def upstream_gone(self, slot: int) -> None:
        """A connection to the endpoint with the counters at `slot` is closed, or was not made."""
        self.counters[slot + OPEN] -= 1

    def http_date(self) -> bytes:
        """Return the value of a Date field for now (RFC 9110, section 5.6.7)."""
        second = int(time.time())
        if second != self._date_second:
            self._date_second = second
            self._date = formatdate(second, usegmt=True).encode()
        return self._date

    def log_access(self, logger: AccessLogger) -> None:
        """Have every exchange written to the access log, from now on."""
        self.history.log_access(logger)
        self.on_exchange_ended = self._exchange_ended

    def _exchange_ended(self, exchange: Exchange) -> None:
        history, learns = self.history, self.service.policy.learns
        history.log(exchange)
        if learns:
            self._teach(exchange)
        if history.is_sampling and exchange.end_reason is _OK:
            history.is_sampling = False
            history.remember(exchange)
            if not learns and history.access_logger is None:
                self.on_exchange_ended = None

    def _teach(self, exchange: Exchange) -> None:
        endpoint = exchange.endpoint
        if endpoint is not None:
            assert exchange.end_reason is not None
            self.service.policy.record(endpoint, exchange.end_reason, exchange.end - exchange.head_received)

    def exchange_ended(
        self, exchange: Exchange, reason: EndReason, now: float, what: str = "", *, is_timed: bool = True
    ) -> None:
        """End `exchange`, count its reason, and tell whoever wants to know.

        `what` was bad about a bad message. `is_timed`: does it tell how fast requests are served?
        """
        exchange.ended(reason, now, what)
        self.counters[RECEIVED_BYTES] += exchange.request.size
        if is_timed:
            self.stopwatch.ended(exchange, max(now - exchange.head_received, 0.0))
        if reason is _OK:
            self.counters[ENDED_OK] += 1
        else:
            self.service.metrics.ended(reason, what)
        if self.on_exchange_ended is not None:
            self.on_exchange_ended(exchange)
        if reason is not _OK:
            self.history.remember(exchange)

    def replace(self, snapshot: Snapshot) -> None:
        """Balance over `snapshot` from now on; close the idle connections to endpoints that left."""
        for upstream in self.service.replace(snapshot, self.clock()):
            upstream.close()
        self.tell_of_panic()

    # Timers: one tick for all deadlines, one for the next endpoint that returns, one sweep of the pool.

    def file_deadline(self, connection: Timed) -> None:
        """Look at the connection when its deadline passes."""
        self.deadlines.file(connection)
        if connection.filed < self._tick_at:
            self._schedule_tick()

    def _schedule_tick(self) -> None:
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        self._tick_at = self.deadlines.next_tick()
        if self._tick_at < NEVER:
            self._tick = self.loop.call_later(max(self._tick_at - self.clock(), 0.0), self._tick_passed)

    def _tick_passed(self) -> None:
        self._tick = None
        self._tick_at = NEVER
        self.deadlines.expire(self.clock())
        self._schedule_tick()

    def watch_returns(self) -> None:
        """Requests wait, or an endpoint was set aside: look again when the next endpoint returns."""
        if self.service.waiting:
            now = self.clock()
            at = self.service.set_aside.next_return(now)
            if at is not None and at < self._return_at:
                if self._return is not None:
                    self._return.cancel()
                self._return_at = at
                self._return = self.loop.call_later(max(at - now, 0.0) + 0.001, self._endpoint_returned)

    def _endpoint_returned(self) -> None:
        self._return = None
        self._return_at = NEVER
        self._try_waiting()
        self.watch_returns()

    def _wake_waiting(self) -> None:
        # Not from inside whatever found the endpoint: a waiting request starts on a fresh stack.
        self.loop.call_soon(self._try_waiting)

    def _try_waiting(self) -> None:
        self._try_some_waiting(self.service.waiting.in_order(), 1)

    def _try_some_waiting(self, waiters: list[Waiter], count: int) -> None:
        """Some now, the others later: hundreds of connects at once would keep the first answer waiting."""
        now = self.clock()
        service = self.service
        for waiter in waiters[:count]:
            if not service.has_available(now):
                break
            if waiter in service.waiting:
                waiter.try_again(now)
        else:
            if rest := waiters[count:]:
                self.loop.call_later(WAKE_SECONDS, self._try_some_waiting, rest, min(count * 2, WAKE_LIMIT))
                return
        self.watch_returns()

    def start(self) -> None:
        """Start the sweep of the pool."""
        self._sweep = self.loop.call_later(_POOL_SWEEP, self._sweep_pool)
        self.stopwatch.timer_due = self.clock() + _POOL_SWEEP

    def _sweep_pool(self) -> None:
        now = self.clock()
        self.stopwatch.timer_came(now)
        for upstream in self.service.pool.expire(now):
            upstream.close()
        self.service.metrics.fold(now)
        self._sweep = self.loop.call_later(_POOL_SWEEP, self._sweep_pool)
        self.stopwatch.timer_due = now + _POOL_SWEEP

    def stop_timers(self) -> None:
        """Cancel the timers."""
        for handle in (self._tick, self._return, self._sweep):
            if handle is not None:
                handle.cancel()

    def stop(self) -> None:
        """Cancel the timers and close the idle connections."""
        self.outbox.flush()
        self.stop_timers()
        for upstream in self.service.pool.clear():
            upstream.close()

    # Endpoints that fail

    def connect_failed(self, upstream: Upstream, failure: ConnectFailure, *, trial: int) -> None:
        """A connect to an endpoint failed, and not for want of anything on this machine."""
        why = f"connect {failure.value}"
        newly, idle = self.service.connect_failed(upstream.key, self.clock(), trial=trial, why=why)
        self._set_aside(upstream.endpoint, why, newly, idle)

    def upstream_silent(self, upstream: Upstream) -> None:
        """An endpoint acknowledged nothing for too long. Who asks it next would wait as long again."""
        why = "it acknowledges nothing any more"
        newly, idle = self.service.went_silent(upstream.key, self.clock(), why=why)
        self._set_aside(upstream.endpoint, why, newly, idle)

    def _set_aside(self, endpoint: Endpoint, why: str, newly: bool, idle: list[Upstream]) -> None:
        if newly:
            _, seconds = self.service.set_aside.state(endpoint, self.clock())
            log.warning("endpoint %s is set aside for %g s: %s", endpoint.authority, round(seconds, 1), why)
            self.watch_returns()
        for upstream in idle:
            upstream.close()
        self.tell_of_panic()

    def idle_lost(self, upstream: Upstream) -> None:
        """A connection was closed while it was idle."""
        self.service.pool.forget(upstream.key, upstream)

    def tell_of_panic(self) -> None:
        """Say when it begins and when it ends."""
        is_panicking = self.service.is_panicking
        if is_panicking is self._told_of_panic:
            return
        self._told_of_panic = is_panicking
        if is_panicking:
            log.warning(
                "no endpoint is ready: those that were ready and have answered since are used all the same (panic)"
            )
        else:
            log.warning("no more endpoints are used that are not ready")
