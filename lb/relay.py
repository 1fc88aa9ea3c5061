"""SHELL: an exchange and its endpoint: the request's way up, the response's way down, and every end.

One relay a client connection, for one exchange at a time. `dispatch` finds the endpoint's connection; `exchange` says
what may happen when.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from lb.attempts import Failure
from lb.client_side import ClientSide
from lb.dispatch import Dispatch
from lb.errors import EndReason
from lb.exchange import Event, Exchange
from lb.flow import NOT_CONNECTED, WRITER_FULL
from lb.http1.framing import CHUNKED, LENGTH, UNTIL_CLOSE, Framing, encode_chunk, encode_last_chunk
from lb.http1.message import MessageError
from lb.http1.responses import Response, framing_for_client
from lb.metrics import ENDED_OK, RESETS, RESPONSES, SENT_BYTES
from lb.outbox import HELD_BYTES
from lb.relay_body import SURELY_TAKEN_BYTES, BodyRelay
from lb.relay_ends import OK
from lb.sockets import unsent_bytes
from lb.upstream import Upstream

if TYPE_CHECKING:
    from lb.proxy import Proxy

log = logging.getLogger(__name__)

_NO_TRAILERS: list[bytes] = []
_RESPONSES_OF_CLASS = RESPONSES - 1


class Relay(BodyRelay):
    """Takes exchanges to an endpoint and back, one at a time."""

    __slots__ = ("_chunked", "_close")

    def __init__(self, proxy: Proxy, client: ClientSide) -> None:
        super().__init__(proxy, client)
        self._dispatch = Dispatch(proxy, self)
        self._close = False
        self._chunked = False
        """Is the response's body sent in the chunked coding?"""

    # The request

    def start(self, exchange: Exchange, now: float) -> None:
        """A request that is its head alone is here: take it to an endpoint."""
        self.exchange = exchange
        if exchange.request_id is None:
            exchange.request_id = self._proxy.new_request_id()
        self._dispatch.start(exchange, now)

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
            hold = self._proxy.outbox.hold
            hold((upstream.transport, head, upstream))
            client.set_deadline(now + self._proxy.config.response_timeout)
            return
        framing = request.framing
        if body.size > SURELY_TAKEN_BYTES or (framing.kind == LENGTH and framing.length > SURELY_TAKEN_BYTES):
            # It may rightly hold up the rest for as long as it wants.
            upstream.expect_acks(False)
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

    def upgrade_received(self, upstream: Upstream, response: Response, data: bytes) -> None:
        """The endpoint has switched protocols. Raises MessageError if that is not what was asked for."""
        exchange = self.exchange
        assert exchange is not None
        is_asked_for = response.upgrades and response.upgrades <= exchange.request.rare.upgrades
        # RFC 9110, section 7.8: only behind the whole request.
        if not is_asked_for or not exchange.is_request_complete:
            raise MessageError(502, "upgrade", "a switch of protocols that nobody asked for")
        now = self._proxy.clock()
        exchange.response_began(response.status, now)
        self._proxy.counters[exchange.slot + RESPONSES] += 1
        self._client.write(response.head_for(framing=response.framing, close=False, date=self._proxy.http_date()))
        self._dispatch.finished()
        self.exchange = self._upstream = self._body = None
        self._client.switch(exchange, upstream, data)

    def whole_response_received(self, upstream: Upstream, response: Response, body: bytes) -> None:
        """Commit and end in one go: the whole response is here, and it is short.

        The same as `response_received`, for the usual case: written out without its turns it saves 0.4 µs of 12.
        """
        exchange = self.exchange
        assert exchange is not None
        client = self._client
        close = not exchange.request.persistent or client.must_close()
        head = response.closing if close else response.plain
        if head is None:
            self.response_received(upstream, response, response.framing, body, True)
            return
        if self._body is not None:
            if not exchange.is_request_complete or upstream.transport.get_write_buffer_size():
                self.response_received(upstream, response, response.framing, body, True)
                return
            # The endpoint's kernel has all of it.
            self._body = None
            client.request_flow.unsplice()
        data = head + body
        size = len(data)
        proxy = self._proxy
        outbox = proxy.outbox
        # As in `Downstream._begin`.
        now = outbox.turn_began
        if not now:
            clock = proxy.clock
            now = clock()
        exchange.answered(response.status, now)
        counters = proxy.counters
        counters[exchange.slot + _RESPONSES_OF_CLASS + response.status_class] += 1
        counters[ENDED_OK] += 1
        exchange.sent = size
        # (Some answer before anything is written.)
        exchange.own_until = (upstream.written or now) - exchange.own_since - now
        hold = outbox.hold
        hold((client.transport, data, None))
        answered = proxy.stopwatch.answered
        answered(exchange)
        flow = client.response_flow
        if flow.held:
            flow.uncouple()
        else:
            flow.reader = None
        upstream.release()
        if not (upstream.reusable and proxy.service.pool.checkin(upstream.key, upstream, now)):
            upstream.close()
        if proxy.on_exchange_ended is not None:
            proxy.on_exchange_ended(exchange)
        self._dispatch.finished()
        self.exchange = self._upstream = None
        self._sent = self._sent_interim = False
        client.exchange_ended(exchange, now, close)

    def response_received(
        self, upstream: Upstream, response: Response, framing: Framing, body: bytes | memoryview, done: bool
    ) -> None:
        """Commit: send the head, and what is here of the body, in one write."""
        exchange = self.exchange
        assert exchange is not None
        client = self._client
        proxy = self._proxy
        clock = proxy.clock
        now = clock()
        head = response.plain
        if (
            head is None
            and response.status == 503
            and self._goes_elsewhere(upstream, Failure.UNAVAILABLE, now, is_done=done)
        ):
            return
        exchange.response_began(response.status, now)
        self._close = close = not exchange.request.persistent or client.must_close()
        proxy.counters[exchange.slot + _RESPONSES_OF_CLASS + response.status_class] += 1
        if head is None or close or framing is not response.framing:
            head = self._unusual_head(response, framing, close)
        else:
            self._chunked = response.chunked
        if self._chunked:
            body = _chunk(upstream, body, done)
        data = head + body if body else head
        exchange.sent = size = len(data)
        client.write(data)
        came = proxy.outbox.turn_began or now
        own_until = (upstream.written or came) - exchange.own_since - came
        if size <= HELD_BYTES:
            proxy.stopwatch.head_held(own_until)
        else:
            proxy.stopwatch.head_passed(own_until)
        if done:
            self._response_ended(exchange, upstream, now)
        else:
            proxy.service.metrics.first_byte_times.observe(now - exchange.upstream_ready)
            self._passed_on(now)
            self._maybe_splice_response(upstream)

    def _maybe_splice_response(self, upstream: Upstream) -> None:
        """Have the kernel pass on what is left of a long body, if it needs no framing of ours."""
        decoder = upstream.decoder
        if decoder is not None and decoder.remaining >= self._proxy.splice_from and not self._chunked:
            # Behind the head, and behind what was read of the body.
            self._proxy.outbox.flush()
            self._client.response_flow.splice(self._client.transport, decoder.remaining)

    def response_body_spliced(self, upstream: Upstream, count: int, done: bool) -> None:
        """The kernel has passed on `count` more bytes of the body."""
        exchange = self.exchange
        assert exchange is not None
        exchange.sent += count
        self._proxy.counters[SENT_BYTES] += count
        now = self._proxy.clock()
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
            exchange.sent += len(body)
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
            self._cut(exchange, EndReason.BAD_RESPONSE, error.what)
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
        self._client.request_flow.unsplice()
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

    def _response_ended(self, exchange: Exchange, upstream: Upstream, now: float) -> None:
        complete = exchange.response_ended()
        flow = self._client.response_flow
        if flow.held:
            flow.uncouple()
        else:
            flow.reader = None
        self._upstream = None
        upstream.release()
        if self._body is not None:
            self._client.request_flow.unsplice()
        if self._body is not None and not self._is_all_sent(upstream, complete):
            upstream.abort()
        elif not (complete and upstream.reusable and self._proxy.service.pool.checkin(upstream.key, upstream, now)):
            upstream.close()
        self._end(exchange, OK, now)
        self._client.exchange_ended(exchange, now, self._close)

    def _is_all_sent(self, upstream: Upstream, complete: bool) -> bool:
        """Did the endpoint take the request's body?

        If not, its response came early and the connection is of no more use. Closed in order it would stay in the
        kernel behind what the endpoint does not read, for many minutes.
        """
        if complete:
            return not upstream.transport.get_write_buffer_size()
        return not unsent_bytes(upstream.transport)


def _chunk(upstream: Upstream, body: bytes | memoryview, done: bool) -> bytes:
    """Return a piece of a response's body in the chunked coding, with the end behind it if it is the last."""
    data = encode_chunk(body)
    if done:
        data += encode_last_chunk(_NO_TRAILERS if upstream.decoder is None else upstream.decoder.trailers)
    return data
