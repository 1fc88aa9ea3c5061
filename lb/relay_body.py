"""SHELL: the body of a request on its way up: held for as long as another attempt may need it, passed on, spliced."""

from __future__ import annotations

from lb.attempts import HeldBody
from lb.exchange import Event, Exchange
from lb.flow import NOT_CONNECTED
from lb.http1.framing import encode_chunk, encode_last_chunk
from lb.relay_ends import EndingRelay

_NO_TRAILERS: list[bytes] = []
# A kernel takes so much for a process that reads nothing yet: its first window is 64 KiB.
SURELY_TAKEN_BYTES = 16384


class BodyRelay(EndingRelay):
    """What a relay needs for the bodies of requests."""

    __slots__ = ()

    def open(self, exchange: Exchange) -> None:
        """The head of any other request is here; `dispatch` follows, behind what is here of its body."""
        proxy = self._proxy
        self.exchange = exchange
        if exchange.request_id is None:
            exchange.request_id = proxy.new_request_id()
        self._body = HeldBody(proxy.service.rules.body_limit)

    def dispatch(self, now: float) -> None:
        """Take the request that was opened to an endpoint."""
        assert self.exchange is not None
        self._dispatch.start(self.exchange, now)

    def request_body_received(self, data: bytes, *, done: bool, trailers: list[bytes] = _NO_TRAILERS) -> None:
        """A piece of the request's body was read."""
        exchange = self.exchange
        assert exchange is not None
        assert self._body is not None
        if exchange.request.chunked:
            data = encode_chunk(data)
            if done:
                data += encode_last_chunk(trailers)
        body = self._body
        body.add(data, sent=self._sent)
        now = self._proxy.clock()
        if done:
            exchange.happened(Event.REQUEST_RECEIVED)
        if self._sent:
            upstream = self._upstream
            assert upstream is not None
            if upstream.expects_acks and (body.size > SURELY_TAKEN_BYTES or not body.is_whole):
                upstream.expect_acks(False)
            self._proxy.outbox.write(upstream.transport, data, upstream)
            self._request_body_sent(now, done=done)
        elif not done and body.size >= max(self._proxy.service.rules.body_limit, 65536):
            self._client.request_flow.hold(NOT_CONNECTED)

    def request_body_spliced(self, *, done: bool) -> None:
        """The kernel has passed on more of the request's body."""
        if done:
            assert self.exchange is not None
            self.exchange.happened(Event.REQUEST_RECEIVED)
        self._request_body_sent(self._proxy.clock(), done=done)

    def _request_body_sent(self, now: float, *, done: bool) -> None:
        assert self.exchange is not None
        if done and not self.exchange.is_committed:
            self._client.set_deadline(now + self._proxy.config.response_timeout)
        else:
            self._passed_on(now)

    def maybe_splice_request(self, remaining: int) -> None:
        """Have the kernel pass on what is left of a long body, if none of it need be held for another attempt."""
        body = self._body
        if remaining >= self._proxy.splice_from and self._sent and body is not None and not body.is_whole:
            assert self._upstream is not None
            # Behind what was read of the body.
            self._proxy.outbox.flush()
            self._client.request_flow.splice(self._upstream.transport, remaining)
