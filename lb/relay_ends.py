"""SHELL: how an exchange ends, well or not: replies of our own, cuts, what came too late, a client that is gone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from lb.attempts import Failure, HeldBody
from lb.client_side import ClientSide
from lb.dispatch import Dispatch
from lb.errors import EndReason
from lb.exchange import Event, Exchange
from lb.flow import WRITER_FULL
from lb.http1.message import MessageError
from lb.metrics import RESPONSES
from lb.progress import LOOKS, Progress
from lb.sockets import unsent_bytes
from lb.upstream import Upstream

if TYPE_CHECKING:
    from lb.proxy import Proxy

log = logging.getLogger(__name__)

OK = EndReason.OK
"""By a name of its own: looking up an enumeration's member costs 60 ns."""


class EndingRelay:
    """What a relay needs to end its exchange."""

    __slots__ = (
        "_body",
        "_client",
        "_dispatch",
        "_progress",
        "_proxy",
        "_sent",
        "_sent_interim",
        "_upstream",
        "exchange",
    )

    _dispatch: Dispatch

    def __init__(self, proxy: Proxy, client: ClientSide) -> None:
        self._proxy = proxy
        self._client = client
        self.exchange: Exchange | None = None
        self._body: HeldBody | None = None
        self._upstream: Upstream | None = None
        self._sent = False
        """Is a connection there, and was the head written to it?"""
        self._sent_interim = False
        """Did a 1xx response go downstream? Then no other endpoint may answer any more."""
        self._progress: Progress | None = None

    def _answer(
        self, status: int, reason: EndReason, detail: str, *, what: str = "", retry_after: int | None = None
    ) -> None:
        """End the exchange with a reply of our own."""
        exchange = self.exchange
        assert exchange is not None
        now = self._proxy.clock()
        exchange.committed(status, now)
        self._client.answer(status, reason, detail, what, retry_after)
        exchange.happened(Event.RESPONSE_ENDED)
        close = not exchange.request.persistent or self._client.must_close()
        self._end(exchange, reason, now, what)
        self._client.exchange_ended(exchange, now, close)

    def _cut(self, exchange: Exchange, reason: EndReason, what: str = "") -> None:
        self._end(exchange, reason, self._proxy.clock(), what)
        self._client.cut()

    def refuse(self, status: int, reason: EndReason, error: MessageError) -> None:
        """The request's body turned out to be bad or too large: end the exchange."""
        exchange = self.exchange
        assert exchange is not None
        self._drop_upstream()
        if exchange.is_committed:
            exchange.happened(Event.UPSTREAM_LOST)
            self._cut(exchange, reason, error.what)
        else:
            self._answer(status, reason, error.detail, what=error.what)

    def client_lost(self, reason: EndReason = EndReason.CLIENT_GONE) -> None:
        """The client is gone, or given up: close its upstream at once."""
        exchange = self.exchange
        if exchange is not None:
            exchange.happened(Event.CLIENT_LOST)
            self._drop_upstream()
            self._end(exchange, reason, self._proxy.clock())

    def close(self) -> None:
        """The client's connection is closed. Nothing may be asked of this relay any more."""
        self.client_lost()
        # The two know each other: without this only the garbage collector could free them.
        del self._dispatch

    def deadline_passed(self, now: float) -> None:
        """What was awaited did not come in time."""
        exchange = self.exchange
        assert exchange is not None
        if self._dispatch.deadline_passed():
            return
        is_in_body = exchange.is_committed or not exchange.is_request_complete
        if is_in_body and self._makes_progress(now):
            self._watch_body(now)
            return
        if exchange.is_committed:
            self._drop_upstream()
            exchange.happened(Event.UPSTREAM_LOST)
            self._cut(exchange, EndReason.BODY_TIMEOUT)
        elif exchange.is_request_complete:
            upstream = self._upstream
            if upstream is not None and self._goes_elsewhere(upstream, Failure.TIMED_OUT, now, is_done=False):
                return
            self._drop_upstream()
            self._answer(504, EndReason.RESPONSE_TIMEOUT, "the endpoint did not answer in time")
        else:
            is_endpoints = self._client.request_flow.held & WRITER_FULL
            self._drop_upstream()
            if is_endpoints:
                self._answer(504, EndReason.BODY_TIMEOUT, "the endpoint does not take the request's body")
            else:
                self._answer(408, EndReason.BODY_TIMEOUT, "the request's body made no progress")

    def _goes_elsewhere(self, upstream: Upstream, failure: Failure, now: float, *, is_done: bool) -> bool:
        """The endpoint answered 503, or did not answer in time. Does the request go to another one?

        `is_done`: the whole response is here, which nobody gets to see then.
        """
        exchange = self.exchange
        assert exchange is not None
        if self._sent_interim:
            return False
        endpoint = self._dispatch.elsewhere(upstream, failure, body=self._body, now=now)
        if endpoint is None:
            return False
        log.debug("endpoint %s %s: trying %s", upstream.endpoint.authority, failure.value, endpoint.authority)
        self._upstream = None
        self._sent = False
        self._client.response_flow.uncouple()
        self._client.request_flow.unsplice()
        self._client.request_flow.release(WRITER_FULL)
        if failure is Failure.UNAVAILABLE:
            self._proxy.counters[exchange.slot + RESPONSES + 4] += 1
            exchange.happened(Event.RESPONSE_HEAD_RECEIVED)
        upstream.release()
        is_reusable = is_done and exchange.is_request_complete and upstream.reusable
        if not (is_reusable and self._proxy.service.pool.checkin(upstream.key, upstream, now)):
            upstream.abort()
        exchange.happened(Event.UPSTREAM_LOST)
        exchange.happened(Event.RETRIED)
        self._dispatch.attempt(endpoint, now)
        return True

    def _makes_progress(self, now: float) -> bool:
        """Did either side take bytes within `bodyIdleTimeout`?"""
        unsent = self._client.unsent()
        if self._upstream is not None:
            unsent += unsent_bytes(self._upstream.transport)
        if self._progress is None:
            self._progress = Progress()
        return self._progress.looked(unsent, now) < self._proxy.config.body_idle_timeout

    def _watch_body(self, now: float) -> None:
        self._client.set_deadline(now + self._proxy.config.body_idle_timeout / LOOKS)

    def _passed_on(self, now: float) -> None:
        """A piece of a body was passed on: look again when that may have been the last for long."""
        if self._progress is not None:
            self._progress.piece_passed()
        self._watch_body(now)

    def _drop_upstream(self) -> None:
        """Give up the connection, wherever it stands."""
        self._dispatch.cancel()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self._client.response_flow.uncouple()
            self._client.request_flow.unsplice()
            upstream.abort()

    def _end(self, exchange: Exchange, reason: EndReason, now: float, what: str = "") -> None:
        self._proxy.exchange_ended(exchange, reason, now, what)
        self._dispatch.finished()
        self.exchange = self._body = None
        self._sent = self._sent_interim = False
