"""SHELL: finds a connection for an exchange: pick, checkout or connect, failover, waiting.

It decides nothing: `attempts` says what follows a failure, `service` who is next.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from lb.attempts import Attempts, Failure, HeldBody, Next
from lb.deadline import NEVER
from lb.endpoint import Endpoint
from lb.errors import REASONS_OF_CONNECTS, RESET, TIMEOUT, UNAVAILABLE, ConnectFailure, EndReason
from lb.exchange import Exchange
from lb.metrics import PICKS, RETRIES, REUSES, STALE
from lb.upstream import Upstream

if TYPE_CHECKING:
    from lb.proxy import Proxy

log = logging.getLogger(__name__)


class DispatchSink(Protocol):
    """Who the connection is for."""

    def upstream_ready(self, upstream: Upstream, now: float) -> None:
        """A connection is here: write the request."""

    def no_upstream(self, status: int, reason: EndReason, detail: str, retry_after: int | None) -> None:
        """There is none to be had: answer the client."""

    def set_deadline(self, deadline: float) -> None:
        """Call `deadline_passed` at `deadline`."""


class Dispatch:
    """Finds connections for the exchanges of one client connection, one exchange at a time."""

    __slots__ = (
        "_attempts",
        "_connect_began",
        "_connecting",
        "_exchange",
        "_last_failure",
        "_proxy",
        "_sink",
        "_trial",
        "_wait_began",
        "_waiting",
    )

    def __init__(self, proxy: Proxy, sink: DispatchSink) -> None:
        self._proxy = proxy
        self._sink = sink
        self._exchange: Exchange | None = None
        self._attempts: Attempts | None = None
        self._connecting: Upstream | None = None
        self._connect_began = 0.0
        self._trial = 0
        """The number of the trial, if the connect under way is that of an endpoint that was set aside."""
        self._waiting = False
        self._wait_began = 0.0
        self._last_failure = ""
        """How the attempt before failed, a word for metrics; empty if there was none."""

    def start(self, exchange: Exchange, now: float) -> None:
        """Find a connection for the first attempt."""
        self._exchange = exchange
        proxy = self._proxy
        service = proxy.service
        endpoint = service.pick(exchange.request, now)
        if endpoint is None:
            self._try_next(now)
            return
        exchange.endpoint = endpoint
        trial = 0 if service.set_aside.is_empty else service.set_aside.picked(endpoint.key, now)
        # A trial needs a connect, by which it is decided.
        upstream = None if trial else service.pool.checkout(endpoint.key, now)
        if upstream is None:
            self._connect(endpoint, trial)
            return
        counters = proxy.counters
        exchange.slot = slot = upstream.slot
        counters[slot + PICKS] += 1
        counters[slot + REUSES] += 1
        self._sink.upstream_ready(upstream, now)

    def lost(self, upstream: Upstream, *, body: HeldBody | None) -> bool:
        """The connection died before the first response byte. May another be tried?"""
        exchange = self._exchange
        assert exchange is not None
        proxy = self._proxy
        now = proxy.clock()
        self._count_failure(RESET)
        if upstream.reused:
            proxy.counters[upstream.slot + STALE] += 1
        self._waited_since(upstream.written, now)
        verdict = self._tries().lost(
            upstream.key,
            exchange.request,
            reused=upstream.reused,
            written=bool(upstream.written),
            body=body,
            now=now,
        )
        return verdict is Next.TRY

    def elsewhere(self, upstream: Upstream, failure: Failure, *, body: HeldBody | None, now: float) -> Endpoint | None:
        """Return the endpoint for the attempt that follows `failure`, or None: there is none."""
        exchange = self._exchange
        assert exchange is not None
        service = self._proxy.service
        endpoint = service.pick_untried(self._tries(), upstream.key, exchange.request, failure, body, now)
        if endpoint is not None:
            self._count_failure(UNAVAILABLE if failure is Failure.UNAVAILABLE else TIMEOUT)
            self._waited_since(upstream.written, now)
        return endpoint

    def _count_failure(self, word: str) -> None:
        self._last_failure = word
        self._proxy.service.metrics.attempt_failed(word)

    def _waited_since(self, began: float, now: float) -> None:
        """Others kept the exchange waiting, until whatever ended that was told to us in this turn.

        `began`: since when, or 0.0 if they did not.
        """
        if self._exchange is not None and began:
            self._exchange.own_since += max((self._proxy.outbox.turn_began or now) - began, 0.0)

    def attempt(self, endpoint: Endpoint, now: float) -> None:
        """Make the attempt for which `elsewhere` named an endpoint."""
        self._attempt_again(endpoint, now)

    def go_on(self, now: float) -> None:
        """Find a connection for the attempt that `lost` allowed."""
        self._try_next(now)

    def cancel(self) -> None:
        """The client is gone, or has its answer: no connection is needed any more."""
        self._leave_waiting()
        upstream, self._connecting = self._connecting, None
        if upstream is not None:
            upstream.abort()
            if self._trial:
                self._proxy.service.trial_abandoned(upstream.key, self._proxy.clock(), self._trial)
                self._trial = 0

    def finished(self) -> None:
        """The exchange has ended."""
        if self._attempts is not None:
            self._tell_of_attempts()
        self._attempts = self._exchange = None
        self._last_failure = ""

    def _tell_of_attempts(self) -> None:
        """One that went well, but not at once, is remembered as those that failed are."""
        exchange, attempts = self._exchange, self._attempts
        assert attempts is not None
        if exchange is not None and attempts.count and exchange.end_reason is EndReason.OK:
            self._proxy.history.remember(exchange)

    def deadline_passed(self) -> bool:
        """The request waited as long as it may. Returns False if it was not waiting at all."""
        if not self._waiting:
            return False
        # It may be one of many that wait for their turn with an endpoint that is there.
        if not self.try_again(self._proxy.clock()):
            self._leave_waiting()
            self._no_endpoint(EndReason.NO_ENDPOINT)
        return True

    def _attempt_again(self, endpoint: Endpoint, now: float) -> None:
        """Connect to `endpoint`: one from the pool may have died with others of its kind."""
        set_aside = self._proxy.service.set_aside
        assert self._exchange is not None
        self._exchange.endpoint = endpoint
        self._connect(endpoint, 0 if set_aside.is_empty else set_aside.picked(endpoint.key, now))

    def _connect(self, endpoint: Endpoint, trial: int) -> None:
        proxy = self._proxy
        counters = proxy.counters
        assert self._exchange is not None
        self._exchange.slot = slot = proxy.service.metrics.slot(endpoint.key)
        counters[slot + PICKS] += 1
        if self._last_failure:
            counters[slot + RETRIES] += 1
            proxy.service.metrics.attempt_retried(self._last_failure)
        self._trial = trial
        self._connecting = upstream = proxy.new_upstream(endpoint)
        self._connect_began = proxy.clock()
        # The connect has a time-out of its own.
        self._sink.set_deadline(NEVER)
        upstream.connect(self, proxy.loop, proxy.config.connect_timeout)

    def _tries(self) -> Attempts:
        if self._attempts is None:
            assert self._exchange is not None
            exchange = self._exchange
            self._attempts = Attempts(self._proxy.service.rules, exchange.head_received, exchange.request)
            exchange.attempts = self._attempts
        return self._attempts

    def _try_next(self, now: float) -> None:
        """Try the next endpoint, or wait for one, or give up."""
        attempts = self._tries()
        service = self._proxy.service
        endpoint = service.pick_again(attempts, now)
        if endpoint is not None:
            self._attempt_again(endpoint, now)
        elif attempts.wait_deadline <= now:
            self._no_endpoint(EndReason.NO_ENDPOINT)
        elif not service.waiting.enter(self):
            self._no_endpoint(EndReason.WAITING_LIMIT)
        else:
            self._waiting = True
            self._wait_began = now
            self._sink.set_deadline(attempts.wait_deadline)
            self._proxy.watch_returns()

    def try_again(self, now: float) -> bool:
        """An endpoint may have returned, or a new one is here: take it. Returns False if there is none."""
        endpoint = self._proxy.service.pick_returned(self._tries(), now)
        if endpoint is None:
            return False
        if self._waiting:
            self._waited_since(self._wait_began, now)
        self._leave_waiting()
        self._attempt_again(endpoint, now)
        return True

    def _leave_waiting(self) -> None:
        if self._waiting:
            self._waiting = False
            self._proxy.service.waiting.leave(self)

    def _no_endpoint(self, reason: EndReason) -> None:
        last = None if self._attempts is None else self._attempts.last_connect
        if reason is EndReason.WAITING_LIMIT:
            detail = "no endpoint can be reached, and too many requests are waiting for one already"
        elif last is None:
            detail = "no endpoint could be reached"
        else:
            reason = REASONS_OF_CONNECTS[last]
            detail = f"no endpoint could be reached, connect {last.value}"
        self._sink.no_upstream(503, reason, detail, 1)

    # What the connect comes to

    def upstream_connected(self, upstream: Upstream) -> None:
        """The connect succeeded."""
        now = self._proxy.clock()
        self._trial = 0
        self._connecting = None
        took = now - self._connect_began
        self._waited_since(self._connect_began, now)
        self._proxy.service.metrics.connect_times.observe(took)
        if self._exchange is not None:
            self._exchange.connect_seconds = took
        if self._proxy.service.connected(upstream.key, now):
            log.info("endpoint %s is back: a connect succeeded", upstream.endpoint.authority)
            self._proxy.tell_of_panic()
        self._sink.upstream_ready(upstream, now)

    def upstream_connect_failed(self, upstream: Upstream, failure: ConnectFailure) -> None:
        """The connect failed: nothing was sent, so go on to the next endpoint."""
        proxy = self._proxy
        now = proxy.clock()
        key = upstream.key
        trial, self._trial = self._trial, 0
        self._connecting = None
        self._count_failure(REASONS_OF_CONNECTS[failure].value)
        self._waited_since(self._connect_began, now)
        if failure is ConnectFailure.LOCAL:
            if trial:
                proxy.service.trial_abandoned(key, now, trial)
            detail = "the load balancer is out of descriptors, ports or memory"
            self._sink.no_upstream(503, EndReason.CONNECT_FAILED, detail, 1)
            return
        proxy.connect_failed(upstream, failure, trial=trial)
        if self._tries().connect_failed(key, failure, now) is Next.TRY:
            self._try_next(now)
        else:
            self._no_endpoint(EndReason.NO_ENDPOINT)
