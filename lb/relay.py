"""SHELL: an exchange and its endpoint: the request's way up, the response's way down, and every end.

One relay a client connection, for one exchange at a time. `dispatch` finds the endpoint's connection; `exchange` says
what may happen when.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from lb.attempts import HeldBody
from lb.client_side import ClientSide
from lb.dispatch import Dispatch
from lb.errors import EndReason
from lb.exchange import Event, Exchange
from lb.flow import NOT_CONNECTED, WRITER_FULL
from lb.http1.forwarding import Response, framing_for_client
from lb.http1.framing import CHUNKED, UNTIL_CLOSE, Framing, encode_chunk, encode_last_chunk
from lb.http1.message import MessageError
from lb.metrics import ENDED_OK, RESETS, RESPONSES
from lb.progress import LOOKS, Progress
from lb.sockets import unsent_bytes
from lb.upstream import Upstream

if TYPE_CHECKING:
    from lb.proxy import Proxy

log = logging.getLogger(__name__)

_NO_TRAILERS: list[bytes] = []
# Looking up an enumeration's member costs 60 ns.
_OK = EndReason.OK
_RESPONSES_OF_CLASS = RESPONSES - 1


class Relay:
    """Takes exchanges to an endpoint and back, one at a time."""

    __slots__ = (
        "_body",
        "_chunked",
        "_client",
        "_close",
        "_dispatch",
        "_progress",
        "_proxy",
        "_sent",
        "_sent_interim",
        "_upstream",
        "exchange",
    )

    def __init__(self, proxy: Proxy, client: ClientSide) -> None:
        self._proxy = proxy
        self._client = client
        self.exchange: Exchange | None = None
        self._dispatch = Dispatch(proxy, self)
        self._body: HeldBody | None = None
        self._upstream: Upstream | None = None
        self._sent = False
        """Is a connection there, and was the head written to it?"""
        self._sent_interim = False
        """Did a 1xx response go downstream? Then no other endpoint may answer any more."""
        self._progress = Progress()
        self._close = False
        self._chunked = False
        """Is the response's body sent in the chunked coding?"""

    # The request

    def start(self, exchange: Exchange, now: float) -> None:
        """A request head is here: take it to an endpoint."""
        proxy = self._proxy
        self.exchange = exchange
        request = exchange.request
        if exchange.request_id is None:
            exchange.request_id = proxy.new_request_id()
        if request.has_body:
            self._body = HeldBody(proxy.service.rules.body_limit)
        self._dispatch.start(exchange, now)

    def request_body_received(self, data: bytes, *, done: bool, trailers: list[bytes] = _NO_TRAILERS) -> None:
        """A piece of the request's body was read."""
        exchange = self.exchange
        assert exchange is not None
        assert self._body is not None
        if exchange.request.chunked:
            data = encode_chunk(data)
            if done:
                data += encode_last_chunk(trailers)
        self._body.add(data, sent=self._sent)
        now = self._proxy.clock()
        if done:
            exchange.happened(Event.REQUEST_RECEIVED)
        if self._sent:
            assert self._upstream is not None
            self._proxy.outbox.write(self._upstream.transport, data, self._upstream)
            if done and not exchange.is_committed:
                self._client.set_deadline(now + self._proxy.config.response_timeout)
            else:
                self._passed_on(now)
        elif not done and self._body.size >= max(self._proxy.service.rules.body_limit, 65536):
            self._client.request_flow.hold(NOT_CONNECTED)

    def upstream_ready(self, upstream: Upstream, now: float) -> None:
        """A connection is here: write the request, and what was read of its body."""
        exchange = self.exchange
        assert exchange is not None
        assert exchange.request_id is not None
        request = exchange.request
        client = self._client
        exchange.upstream_ready = now
        self._upstream = upstream
        upstream.begin(self, request.is_head)
        flow = client.response_flow
        if flow.held:
            flow.couple(upstream.transport)
        else:
            flow.reader = upstream.transport
        self._sent = True
        head = request.head_for(upstream.endpoint, client.forwarded_for, exchange.request_id)
        body = self._body
        if body is None:
            self._proxy.outbox.write(upstream.transport, head, upstream)
            client.set_deadline(now + self._proxy.config.response_timeout)
            return
        self._proxy.outbox.write(upstream.transport, b"".join([head, *body.pieces()]), upstream)
        body.was_sent()
        if exchange.is_request_complete:
            client.set_deadline(now + self._proxy.config.response_timeout)
        else:
            self._passed_on(now)
        client.request_flow.release(NOT_CONNECTED)

    def no_upstream(self, status: int, reason: EndReason, detail: str, retry_after: int | None) -> None:
        """There is no connection to be had: answer the client."""
        self._answer(status, reason, detail, retry_after=retry_after)

    def set_deadline(self, deadline: float) -> None:
        """Be told when `deadline` has passed."""
        self._client.set_deadline(deadline)

    # What the upstream tells us

    def interim_received(self, upstream: Upstream, response: Response) -> None:
        """Pass a 1xx response on, but not to an HTTP/1.0 client (RFC 9110, section 15.2)."""
        assert self.exchange is not None
        if self.exchange.request.minor:
            self._sent_interim = True
            self._client.write(response.head_for(framing=response.framing, close=False, date=self._proxy.http_date()))

    def response_received(
        self, upstream: Upstream, response: Response, framing: Framing, body: bytes, done: bool
    ) -> None:
        """Commit: send the head, and what is here of the body, in one write."""
        exchange = self.exchange
        assert exchange is not None
        client = self._client
        proxy = self._proxy
        clock = proxy.clock
        now = clock()
        exchange.response_began(response.status, now)
        self._close = close = not exchange.request.persistent or client.must_close()
        proxy.counters[exchange.slot + _RESPONSES_OF_CLASS + response.status_class] += 1
        head = response.plain
        if head is None or close or framing is not response.framing:
            head = self._unusual_head(response, framing, close)
        else:
            self._chunked = response.chunked
        if self._chunked:
            body = _chunk(upstream, body, done)
        proxy.outbox.write(client.transport, head + body if body else head)
        if done:
            self._response_ended(exchange, upstream, now)
        else:
            self._passed_on(now)

    def _unusual_head(self, response: Response, framing: Framing, close: bool) -> bytes:
        """Return the head for another framing than the endpoint's, or one that says close or needs a Date."""
        assert self.exchange is not None
        framing = framing_for_client(framing, self.exchange.request.minor)
        self._chunked = framing.kind == CHUNKED
        self._close = close = close or framing.kind == UNTIL_CLOSE
        return response.head_for(framing=framing, close=close, date=self._proxy.http_date())

    def response_body_received(self, upstream: Upstream, body: bytes, done: bool) -> None:
        """Pass a piece of the body on."""
        exchange = self.exchange
        assert exchange is not None
        now = self._proxy.clock()
        if self._chunked:
            body = _chunk(upstream, body, done)
        if body:
            self._client.write(body)
        if done:
            self._response_ended(exchange, upstream, now)
        else:
            self._passed_on(now)

    def response_malformed(self, upstream: Upstream, error: MessageError) -> None:
        """The endpoint broke the protocol: 502, or a cut if the response had begun. The connection goes."""
        exchange = self.exchange
        assert exchange is not None
        log.warning("endpoint %s sent a bad response: %s", upstream.endpoint.authority, error.detail)
        self._drop_upstream()
        if exchange.is_committed:
            exchange.happened(Event.UPSTREAM_LOST)
            self._cut(exchange, EndReason.BAD_RESPONSE)
        else:
            self._answer(
                502, EndReason.BAD_RESPONSE, f"the endpoint sent a bad response: {error.detail}", what=error.what
            )

    def upstream_lost(self, upstream: Upstream) -> None:
        """The connection died: before the commit another endpoint may answer, after it the client must see it."""
        exchange = self.exchange
        assert exchange is not None
        exchange.happened(Event.UPSTREAM_LOST)
        self._proxy.counters[exchange.slot + RESETS] += 1
        self._upstream = None
        self._client.response_flow.uncouple()
        if exchange.is_committed:
            self._cut(exchange, EndReason.RESET_IN_BODY)
            return
        self._sent = False
        now = self._proxy.clock()
        may_go_on = self._dispatch.lost(upstream, body=self._body)
        if may_go_on and not self._sent_interim:
            exchange.happened(Event.RETRIED)
            self._client.request_flow.release(WRITER_FULL)
            self._dispatch.go_on(now)
        else:
            self._answer(502, EndReason.RESET_BEFORE_HEAD, "the endpoint closed the connection before it answered")

    def upstream_full(self, full: bool) -> None:
        """Hold the client's request body while the endpoint takes no more of it."""
        if full:
            self._client.request_flow.hold(WRITER_FULL)
        else:
            self._client.request_flow.release(WRITER_FULL)

    # Ends

    def _response_ended(self, exchange: Exchange, upstream: Upstream, now: float) -> None:
        complete = exchange.response_ended()
        flow = self._client.response_flow
        if flow.held:
            flow.uncouple()
        else:
            flow.reader = None
        self._upstream = None
        upstream.release()
        if self._body is not None and not self._is_all_sent(upstream, complete):
            upstream.abort()
        elif not (complete and upstream.reusable and self._proxy.service.pool.checkin(upstream.key, upstream, now)):
            upstream.close()
        self._end(exchange, _OK, now)
        self._client.exchange_ended(exchange, now, self._close)

    def _is_all_sent(self, upstream: Upstream, complete: bool) -> bool:
        """Did the endpoint take the request's body?

        If not, its response came early and the connection is of no more use. Closed in order it would stay in the
        kernel behind what the endpoint does not read, for many minutes.
        """
        if complete:
            return not upstream.transport.get_write_buffer_size()
        return not unsent_bytes(upstream.transport)

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
        self._end(exchange, reason, now)
        self._client.exchange_ended(exchange, now, close)

    def _cut(self, exchange: Exchange, reason: EndReason) -> None:
        self._end(exchange, reason, self._proxy.clock())
        self._client.cut()

    def refuse(self, status: int, reason: EndReason, error: MessageError) -> None:
        """The request's body turned out to be bad or too large: end the exchange."""
        exchange = self.exchange
        assert exchange is not None
        self._drop_upstream()
        if exchange.is_committed:
            exchange.happened(Event.UPSTREAM_LOST)
            self._cut(exchange, reason)
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
            self._drop_upstream()
            self._answer(504, EndReason.RESPONSE_TIMEOUT, "the endpoint did not answer in time")
        else:
            is_endpoints = self._client.request_flow.held & WRITER_FULL
            self._drop_upstream()
            if is_endpoints:
                self._answer(504, EndReason.BODY_TIMEOUT, "the endpoint does not take the request's body")
            else:
                self._answer(408, EndReason.BODY_TIMEOUT, "the request's body made no progress")

    def _makes_progress(self, now: float) -> bool:
        """Did either side take bytes within `bodyIdleTimeout`?"""
        unsent = self._client.unsent()
        if self._upstream is not None:
            unsent += unsent_bytes(self._upstream.transport)
        return self._progress.looked(unsent, now) < self._proxy.config.body_idle_timeout

    def _watch_body(self, now: float) -> None:
        self._client.set_deadline(now + self._proxy.config.body_idle_timeout / LOOKS)

    def _passed_on(self, now: float) -> None:
        """A piece of a body was passed on: look again when that may have been the last for long."""
        self._progress.piece_passed()
        self._watch_body(now)

    def _drop_upstream(self) -> None:
        """Give up the connection, wherever it stands."""
        self._dispatch.cancel()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self._client.response_flow.uncouple()
            upstream.abort()

    def _end(self, exchange: Exchange, reason: EndReason, now: float) -> None:
        exchange.ended(reason, now)
        proxy = self._proxy
        if reason is _OK:
            proxy.counters[ENDED_OK] += 1
        else:
            proxy.service.metrics.ended(reason)
        if proxy.on_exchange_ended is not None:
            proxy.on_exchange_ended(exchange)
        self._dispatch.finished()
        self.exchange = self._body = None
        self._sent = self._sent_interim = False


def _chunk(upstream: Upstream, body: bytes, done: bool) -> bytes:
    """Return a piece of a response's body in the chunked coding, with the end behind it if it is the last."""
    data = encode_chunk(body)
    if done:
        data += encode_last_chunk(_NO_TRAILERS if upstream.decoder is None else upstream.decoder.trailers)
    return data
