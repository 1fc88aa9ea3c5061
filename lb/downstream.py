"""SHELL: one client connection. Reads requests, one exchange after the other, and gives them to its relay."""

from __future__ import annotations

import asyncio
from typing import cast

from lb.closing import OPEN, Phase
from lb.deadline import NEVER
from lb.errors import EndReason, end_word
from lb.evictable import EvictableConnection
from lb.exchange import Event, Exchange
from lb.flow import BACKLOG, NOT_CONNECTED, WRITER_FULL, Flow
from lb.http1.forwarding import Request
from lb.http1.framing import BodyDecoder, LengthBody, body_decoder
from lb.http1.inbox import Inbox, body_too_large
from lb.http1.message import MessageError
from lb.http1.readers import CACHED_HEAD_BYTES
from lb.http1.replies import options_reply
from lb.metrics import CONNECTIONS, CONNECTIONS_OPEN, EXCHANGES, RECEIVED_BYTES
from lb.proxy import Proxy
from lb.relay import Relay
from lb.tunnel import Tunnel
from lb.upstream import Upstream

# Of pipelined requests this much is read ahead while a response is pending. Reading goes on below it, because a
# client's FIN or RST is reported only to a transport that reads.
_BACKLOG_LIMIT = 65536


class Downstream(EvictableConnection):
    """One client connection."""

    __slots__ = (
        "_answering",
        "_body",
        "_body_bytes",
        "_relay",
        "_requests",
        "forwarded_for",
        "response_flow",
    )

    def __init__(self, proxy: Proxy) -> None:
        super().__init__(proxy)
        self._relay = Relay(proxy, self)
        self._exchange: Exchange | None = None
        self._body: BodyDecoder | None = None
        self._body_bytes = 0
        self._requests = proxy.requests
        self._inbox = Inbox(proxy.requests)
        self._answering = False
        self._head_begun = True
        self.forwarded_for = b""
        self.response_flow = Flow()

    # What the transport tells us

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is here: its first head is expected from now on."""
        self.transport = transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        # On a socket for both families an IPv4 client has a mapped address (RFC 4291, section 2.5.5.2).
        self.forwarded_for = peer[0].removeprefix("::ffff:").encode() if peer else b"unknown"
        self.request_flow.couple(transport)
        proxy = self._proxy
        if proxy.trusted_networks:
            self._requests = proxy.requests_of(self.forwarded_for.decode())
            self._inbox = Inbox(self._requests)
        proxy.connections.add(self)
        proxy.counters[CONNECTIONS] += 1
        proxy.counters[CONNECTIONS_OPEN] += 1
        self.set_deadline(proxy.clock() + proxy.config.request_head_timeout)

    def data_received(self, data: bytes) -> None:
        """Read heads and bodies; keep what came too early."""
        if self._exchange is None:
            if not self._inbox.data and self._phase is OPEN and not self.response_flow.held:
                proxy = self._proxy
                try:
                    seen = self._requests.get
                    request = seen(data) if len(data) <= CACHED_HEAD_BYTES else None
                    if request is None:
                        request = self._inbox.first_request(data, proxy.config.max_request_body_bytes)
                except MessageError as error:
                    self._refuse_head(error)
                    return
                if request is not None:
                    self._begin(request)
                    return
            elif self._phase is not Phase.OPEN:
                self._lingered()
                return
            else:
                data = self._inbox.data + data
            self._inbox.data = data
            self._read_requests()
        elif self._body is not None:
            self._body_received(self._body, data)
        else:
            self._inbox.data += data
            if len(self._inbox.data) > _BACKLOG_LIMIT:
                self.request_flow.hold(BACKLOG)

    def eof_received(self) -> bool:
        """The client sent its FIN. Returns whether our side stays open."""
        self._eof = True
        if self._is_owed():
            return True
        if self._exchange is not None:
            self._client_lost()
        # Now the transport closes, behind what was written to it: that must be all.
        self._proxy.outbox.flush()
        return False

    def peer_closed_while_paused(self) -> None:
        """Our own loop tells of a FIN that comes while reading is paused; the others tell it when that is read."""
        exchange = self._exchange
        if exchange is not None and not exchange.is_committed and self._proxy.config.abort_on_client_fin:
            self._client_lost()
            self._reset()

    def _is_owed(self) -> bool:
        """Is anything owed to a client that has sent its FIN?"""
        exchange = self._exchange
        aborts = self._proxy.config.abort_on_client_fin
        if self._phase is not Phase.OPEN:
            return False
        if exchange is None:
            # Requests that are held because it reads slowly; a head that was only begun can't be completed any more.
            return bool(self._inbox.data and self.response_flow.held and not aborts)
        return exchange.is_request_complete and (exchange.is_committed or not aborts)

    def pause_writing(self) -> None:
        """The client reads more slowly than its response comes."""
        self.response_flow.hold(WRITER_FULL)

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.response_flow.release(WRITER_FULL)
        if self._exchange is None and self._inbox.data:
            self._read_requests()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed, by either side."""
        self._phase = Phase.CLOSED
        self._exchange = None
        self.request_flow.uncouple()
        self._leave()
        proxy = self._proxy
        proxy.counters[CONNECTIONS_OPEN] -= 1
        proxy.on_connection_closed()

    def _leave(self) -> None:
        """Nothing of this connection is looked after here any longer."""
        self._relay.close()
        del self._relay
        proxy = self._proxy
        proxy.deadlines.remove(self)
        self.deadline = NEVER
        proxy.connections.discard(self)

    # Requests

    def _read_requests(self) -> None:
        """Read the heads that are in the buffer and start their exchanges, one at a time and in order."""
        if self._answering:
            # An exchange that ends at once comes back here: the loop below goes on with the next.
            return
        self._answering = True
        inbox = self._inbox
        while inbox.data and self._exchange is None and self._phase is Phase.OPEN:
            if self.response_flow.held:
                break
            try:
                request = inbox.next_request(self._proxy.config.max_request_body_bytes)
            except MessageError as error:
                self._refuse_head(error)
                break
            if request is None:
                if self._eof:
                    self._finish(linger=False)
                elif inbox.data:
                    self._expect_rest_of_head()
                break
            self._begin(request)
        self._answering = False
        if len(self._inbox.data) <= _BACKLOG_LIMIT:
            self.request_flow.release(BACKLOG)

    def _expect_rest_of_head(self) -> None:
        """A head has begun: it has `requestHeadTimeout` from its first byte (or from accept) to its end."""
        if not self._head_begun:
            self._head_begun = True
            self.set_deadline(self._proxy.head_deadline(self._proxy.clock()))

    def _begin(self, request: Request) -> None:
        proxy = self._proxy
        # What came was there when the turn began. Where the loop does not tell, it came now.
        now = proxy.outbox.turn_began
        if not now:
            # (An attribute that is no method is called through a local: in one expression it takes 50 ns longer.)
            clock = proxy.clock
            now = clock()
        proxy.counters[EXCHANGES] += 1
        self._inbox.empty_lines = 0
        if request.is_simple:
            self._exchange = exchange = Exchange(request, now, True)
            exchange.client = self.forwarded_for
            self._relay.start(exchange, now)
            return
        if request.rare.is_for_us:
            self._answer_options(request, now)
            return
        self._exchange = exchange = Exchange(request, now, False)
        exchange.client = self.forwarded_for
        exchange.received = 0
        self._body_bytes = 0
        self._body = body = body_decoder(request.framing, status=400, dropped=request.rare.named)
        self._relay.open(exchange)
        # Before an endpoint is looked for: head and body then go out in one write, which wakes the endpoint once.
        self._body_received(body, self._inbox.take_all())
        if self._exchange is not exchange:
            return
        self._relay.dispatch(now)
        if self._body is body:
            self._maybe_splice(body)
            if self._eof:
                # Half-closed in the middle of a body: it can't be completed. The responses before it are delivered.
                self._exchange = self._body = None
                self._relay.client_lost()
                self._finish(linger=False)

    def _body_received(self, body: BodyDecoder, data: bytes) -> None:
        try:
            piece, done = body.feed(data)
        except MessageError as error:
            self._relay.refuse(error.status, EndReason.BAD_REQUEST, error)
            return
        self._body_received_bytes(len(piece))
        limit = self._proxy.config.max_request_body_bytes
        if limit and self._body_bytes > limit:
            self._relay.refuse(413, EndReason.BAD_REQUEST, body_too_large(limit))
            return
        if done:
            self._body = None
            self._inbox.data = body.excess
        if piece or done:
            self._relay.request_body_received(piece, done=done, trailers=body.trailers)
        if self._body is body:
            self._maybe_splice(body)

    def _maybe_splice(self, body: BodyDecoder) -> None:
        if body.remaining:
            self._relay.maybe_splice_request(body.remaining)

    def _body_received_bytes(self, count: int) -> None:
        self._body_bytes += count
        self._proxy.counters[RECEIVED_BYTES] += count
        if self._exchange is not None:
            self._exchange.received = self._body_bytes

    def spliced(self, count: int) -> None:
        """`count` bytes of the body went to the endpoint without us."""
        body = self._body
        if isinstance(body, LengthBody):
            self._body_received_bytes(count)
            done = body.passed(count)
            if done:
                self._body = None
            self._relay.request_body_spliced(done=done)

    def _answer_options(self, request: Request, now: float) -> None:
        """The request goes no further than here: say what may be asked for."""
        exchange = Exchange(request, now, True)
        self._exchange = exchange
        exchange.client = self.forwarded_for
        exchange.committed(200, now)
        exchange.happened(Event.RESPONSE_ENDED)
        proxy = self._proxy
        # A body is not read.
        close = not request.persistent or request.has_body or self.must_close()
        exchange.request_id = request_id = request.request_id or proxy.new_request_id()
        data = options_reply(request_id, date=proxy.http_date(), close=close)
        exchange.sent = len(data)
        self.write(data)
        proxy.exchange_ended(exchange, EndReason.OK, now)
        self.exchange_ended(exchange, now, close)

    # What the relay asks for

    def must_close(self) -> bool:
        """Must this response be the last one on the connection, although the client did not ask for that?"""
        return (
            self._body is not None
            or self._proxy.closing
            or (self._eof and (not self._inbox.data or self._proxy.config.abort_on_client_fin))
        )

    def answer(self, status: int, reason: EndReason, detail: str, what: str, retry_after: int | None) -> None:
        """Send a reply of our own to the exchange."""
        exchange = self._exchange
        assert exchange is not None
        exchange.sent = self._reply(
            status,
            reason,
            detail,
            what,
            retry_after,
            request_id=exchange.request_id or b"",
            close=not exchange.request.persistent or self.must_close(),
            body=not exchange.request.is_head,
        )

    def cut(self) -> None:
        """The response can't be completed. A reset shows it to the client whatever framing it reads."""
        self._exchange = self._body = None
        self._reset()

    def switch(self, exchange: Exchange, upstream: Upstream, data: bytes) -> None:
        """The protocol was switched: from now on both connections are a tunnel's. `data` came behind the 101."""
        self._exchange = None
        self._phase = Phase.CLOSED
        proxy = self._proxy
        self._leave()
        tunnel = Tunnel(proxy, exchange, (self.transport, self.request_flow), (upstream.transport, self.response_flow))
        tunnel.start(to_client=data, to_endpoint=self._inbox.take_all(), client_fin=self._eof)

    def exchange_ended(self, exchange: Exchange, now: float, close: bool) -> None:
        """The response is complete: on to the next request, or close."""
        unread = self._body is not None
        self._exchange = self._body = None
        if close or (self._eof and (not self._inbox.data or self._proxy.config.abort_on_client_fin)):
            # Whoever asked for the close sends nothing more.
            self._finish(linger=unread or exchange.request.persistent or bool(self._inbox.data))
            return
        self._head_begun = False
        if self.request_flow.held:
            # Whatever its endpoint did not take: the next request has another one.
            self.request_flow.release(WRITER_FULL | NOT_CONNECTED)
        self.set_deadline(self._proxy.idle_deadline(now))
        if self._inbox.data:
            self._read_requests()

    # Ends

    def _refuse_head(self, error: MessageError, reason: EndReason = EndReason.BAD_REQUEST) -> None:
        """The head is bad or late: answer it, although there is no exchange, and close."""
        counters = self._proxy.service.metrics
        counters.values[EXCHANGES] += 1
        counters.ended(reason, error.what)
        self._inbox.data = b""
        request_id = self._proxy.new_request_id()
        sent = self._reply(error.status, reason, error.detail, error.what, None, request_id=request_id, close=True)
        word = end_word(reason, error.what)
        self._proxy.history.head_refused(self.forwarded_for, error.status, word, request_id, sent)
        self._finish(linger=True)

    def _client_lost(self) -> None:
        self._exchange = self._body = None
        self._relay.client_lost()
        self._phase = Phase.CLOSED

    def deadline_passed(self, now: float) -> None:
        """What was awaited did not come in time."""
        self.deadline = NEVER
        if self._phase is not Phase.OPEN:
            self._finished(now)
        elif self._exchange is not None:
            self._relay.deadline_passed(now)
        elif self._inbox.data:
            error = MessageError(408, "", "the request head did not arrive in time")
            self._refuse_head(error, EndReason.REQUEST_TIMEOUT)
        else:
            # Idle, or silent since accept (browsers open spare connections): closed without a word.
            self._finish(linger=False)

    # Drain

    def drain(self) -> None:
        """No request after the next: a connection that idles is given a moment for one."""
        if self._exchange is None and self._phase is Phase.OPEN:
            self.set_deadline(min(self.deadline, self._proxy.idle_deadline(self._proxy.clock())))

    def abort(self) -> None:
        """Stop at once, whatever is going on."""
        if self._exchange is not None:
            self._exchange = self._body = None
            self._relay.client_lost(EndReason.DRAIN_CUT)
        self._reset()
