"""SHELL: one connection to an endpoint. Reads responses and tells its sink what came.

A connection serves one exchange at a time and idles in the pool in between. Its sink is whoever has the exchange now.
"""

from __future__ import annotations

import asyncio
import errno
from typing import Protocol, cast

from lb.connecting import Connecting
from lb.endpoint import Endpoint
from lb.errors import ConnectFailure
from lb.http1.framing import (
    LENGTH,
    NO_BODY,
    BodyDecoder,
    ChunkedBody,
    CloseBody,
    Framing,
    LengthBody,
    body_decoder,
)
from lb.http1.head import find_head_end
from lb.http1.message import MessageError
from lb.http1.readers import ResponseReader
from lb.http1.responses import Response
from lb.sockets import expect_acks, is_drained, reset, unread

_NO_BODY = Framing(NO_BODY)
_INTERIM_LIMIT = 32
# How the kernel tells that nothing was acknowledged for too long; the latter two if ICMP gave a reason meanwhile.
_SILENT_ERRORS = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH})
# The shortest read that may have been filled to the brim on any loop: it says nothing about what stands behind it.
# Whatever is shorter may be held to the end of a turn, with the head that it gets (`outbox.HELD_BYTES`).
_FILLED_READ = 32768
_WRITE_BUFFER_HIGH = 65536


class ConnectSink(Protocol):
    """What a connect comes to."""

    def upstream_connected(self, upstream: Upstream) -> None:
        """The connect succeeded."""

    def upstream_connect_failed(self, upstream: Upstream, failure: ConnectFailure) -> None:
        """The connect failed: nothing was sent."""


class UpstreamSink(Protocol):
    """What becomes of a request that was written."""

    def interim_received(self, upstream: Upstream, response: Response) -> None:
        """A 1xx response: the final one is still to come."""

    def response_received(
        self, upstream: Upstream, response: Response, framing: Framing, body: bytes | memoryview, done: bool
    ) -> None:
        """A response head, and as much of its body as came with it: a view if that is long."""

    def whole_response_received(self, upstream: Upstream, response: Response, body: bytes) -> None:
        """A whole short response to anything but HEAD: head and body, and nothing behind it."""

    def response_body_received(self, upstream: Upstream, body: bytes, done: bool) -> None:
        """More of the body."""

    def response_body_spliced(self, upstream: Upstream, count: int, done: bool) -> None:
        """More of the body went to the client past us."""

    def upgrade_received(self, upstream: Upstream, response: Response, data: bytes) -> None:
        """A 101 response, and what came behind it. Raises MessageError if nobody asked for it."""

    def response_malformed(self, upstream: Upstream, error: MessageError) -> None:
        """What the endpoint sent is no acceptable response."""

    def upstream_lost(self, upstream: Upstream) -> None:
        """The connection was closed before the response was complete."""

    def upstream_full(self, full: bool) -> None:
        """The connection takes no more bytes for now, or takes bytes again."""


class Upstream(asyncio.Protocol):
    """One connection to `endpoint`."""

    __slots__ = (
        "_buffer",
        "_connect_sink",
        "_connecting",
        "_interims",
        "_is_counted",
        "_is_head",
        "_owner",
        "_responses",
        "_scanned",
        "_silence",
        "_sink",
        "decoder",
        "endpoint",
        "expects_acks",
        "idle_since",
        "is_usable",
        "key",
        "reusable",
        "reused",
        "slot",
        "transport",
        "written",
    )

    transport: asyncio.Transport

    def __init__(self, endpoint: Endpoint, slot: int, responses: ResponseReader, owner: UpstreamOwner) -> None:
        self.endpoint = endpoint
        self.key = endpoint.key
        self.slot = slot
        """Where the counters of the endpoint are kept."""
        self.idle_since = 0.0
        self.is_usable = True
        """Is it open, as far as is known? A reset is known when connection_lost tells of it."""
        self.reused = False
        """Did it serve an exchange before this one?"""
        self.reusable = False
        """Once the response is complete: may another request follow?"""
        self.written = 0.0
        """When something of the request was first handed to the kernel; 0.0: nothing was."""
        self.expects_acks = False
        """Does the connection break when the endpoint acknowledges nothing for as long as a connect may take?"""
        self.decoder: BodyDecoder | None = None
        """The rest of the body that is being read, if any."""
        self._responses = responses
        self._owner = owner
        self._silence = 0.0
        self._is_counted = True
        self._connecting: Connecting | None = None
        self._connect_sink: ConnectSink | None = None
        self._sink: UpstreamSink | None = None
        self._buffer = b""
        self._scanned = 0
        self._interims = 0
        self._is_head = False

    def connect(self, sink: ConnectSink, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        """Connect within `timeout` seconds, and tell `sink`."""
        self._connect_sink = sink
        self._silence = timeout
        self._connecting = Connecting(self, self.key, loop, timeout, self._connect_failed)

    def _connect_failed(self, failure: ConnectFailure) -> None:
        self._connecting = None
        self._is_gone()
        sink, self._connect_sink = self._connect_sink, None
        if sink is not None:
            sink.upstream_connect_failed(self, failure)

    def _is_gone(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self._owner.upstream_gone(self.slot)

    def begin(self, sink: UpstreamSink, is_head: bool) -> None:
        """A request is about to be written: its response goes to `sink`."""
        self._sink = sink
        self._is_head = is_head
        self.reusable = False
        self.written = 0.0

    def release(self) -> None:
        """The exchange is over; what comes from now on was not asked for."""
        self._sink = None
        self.decoder = None
        self.reused = True
        if not self.expects_acks:
            self.expect_acks(True)

    def expect_acks(self, wanted: bool) -> None:
        """Notice soon, or not, that the endpoint has gone without a word."""
        self.expects_acks = wanted
        expect_acks(self.transport, self._silence if wanted else 0.0)

    def close(self) -> None:
        """Close in order."""
        self.is_usable = False
        self._sink = None
        self.transport.close()

    def abort(self) -> None:
        """Give the connection up with a reset, or the attempt to make it."""
        self.is_usable = False
        self._sink = self._connect_sink = None
        if self._connecting is not None:
            self._connecting.cancel()
            self._is_gone()
        elif not self.transport.is_closing():
            reset(self.transport)

    # What the transport tells us

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Tell the sink that it can write."""
        self.transport = transport = cast(asyncio.Transport, transport)
        if self._connecting is not None and not self._connecting.made():
            reset(transport)
            return
        self._connecting = None
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_HIGH)
        self.expect_acks(True)
        sink, self._connect_sink = self._connect_sink, None
        if sink is None:
            reset(transport)
        else:
            sink.upstream_connected(self)

    def data_received(self, data: bytes) -> None:
        """Read a head or a piece of a body."""
        sink = self._sink
        if sink is None:
            self.is_usable = False
            # RFC 9112, section 6.3: bytes beyond the end of a response must not be taken for the next one.
            reset(self.transport)
            return
        decoder = self.decoder
        if decoder is None and not self._buffer:
            if not self.written and self.reused:
                # It idled: this was sent before the request, of which nothing was written yet, and is no answer to it.
                self.is_usable = False
                self._sink = None
                reset(self.transport)
                sink.upstream_lost(self)
                return
            # The common case: a head that came before, and the whole body.
            found = self._responses.latest
            if found is None or not data.startswith(found[0]):
                found = self._responses.look_up(data)
            if found is not None and not self._is_head:
                head, response = found
                end = len(head)
                size = len(data)
                if size == end + response.body_size:
                    self._interims = 0
                    if size < _FILLED_READ:
                        self.reusable = response.reusable
                        sink.whole_response_received(self, response, data[end:])
                    else:
                        self.reusable = response.reusable and self._is_drained()
                        sink.response_received(self, response, response.framing, memoryview(data)[end:], True)
                    return
        try:
            if decoder is None:
                self._head_received(sink, data)
            else:
                body, done = decoder.feed(data)
                if done:
                    self.reusable = self.reusable and not decoder.excess
                    if len(data) >= _FILLED_READ:
                        self.reusable = self.reusable and self._is_drained()
                sink.response_body_received(self, body, done)
        except MessageError as error:
            sink.response_malformed(self, error)

    def _head_received(self, sink: UpstreamSink, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        while True:
            end = find_head_end(data, self._scanned, self._responses.limits)
            if end < 0:
                self._buffer = data
                self._scanned = len(data)
                return
            response = self._responses.read(data[:end])
            if response.status >= 200:
                break
            self._interims += 1
            if self._interims > _INTERIM_LIMIT:
                raise MessageError(502, "interim", "too many interim responses")
            if response.status == 101:
                if self.transport.is_closing():
                    # Read behind a write that failed: nothing can follow it.
                    raise MessageError(502, "upgrade", "a switch of protocols on a connection that broke")
                self._buffer = b""
                sink.upgrade_received(self, response, data[end:])
                return
            sink.interim_received(self, response)
            if self._sink is not sink:
                return
            data = data[end:]
            self._scanned = 0
        self._buffer = b""
        self._scanned = 0
        self._response_begun(sink, response, data, end)

    def _response_begun(self, sink: UpstreamSink, response: Response, data: bytes, end: int) -> None:
        """A final head is here; its body begins in `data` at `end`."""
        self._interims = 0
        framing = _NO_BODY if self._is_head else response.framing
        self.reusable = response.reusable_after_head if self._is_head else response.reusable
        size = len(data) - end
        if framing.kind == NO_BODY or (framing.kind == LENGTH and size >= framing.length):
            # The whole response is here.
            if size > framing.length or (len(data) >= _FILLED_READ and not self._is_drained()):
                self.reusable = False
            whole = data if size < _FILLED_READ else memoryview(data)
            sink.response_received(self, response, framing, whole[end : end + framing.length], True)
            return
        self.decoder = decoder = body_decoder(framing, status=502, dropped=response.named)
        body, done = decoder.feed(data[end:])
        if done and (decoder.excess or (len(data) >= _FILLED_READ and not self._is_drained())):
            self.reusable = False
        sink.response_received(self, response, framing, body, done)

    def spliced(self, count: int) -> None:
        """`count` bytes of the body went to the client without us."""
        decoder = self.decoder
        if self._sink is not None and isinstance(decoder, LengthBody):
            done = decoder.passed(count)
            if done and not self._is_drained():
                self.reusable = False
            self._sink.response_body_spliced(self, count, done)

    def _is_drained(self) -> bool:
        """Is nothing unread behind the response? It would be taken for the next one (RFC 9112, section 6.3)."""
        return is_drained(self.transport)

    def eof_received(self) -> bool:
        """Let the transport close: connection_lost follows."""
        self.is_usable = False
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed, by either side."""
        self.is_usable = False
        self._is_gone()
        sink = self._sink
        if isinstance(exc, OSError) and exc.errno in _SILENT_ERRORS:
            self._owner.upstream_silent(self)
        if sink is None:
            self._owner.idle_lost(self)
        elif exc is None and isinstance(self.decoder, CloseBody):
            sink.response_body_received(self, b"", True)
        elif exc is None or not self._read_what_is_left(sink):
            sink.upstream_lost(self)

    def _read_what_is_left(self, sink: UpstreamSink) -> bool:
        """The connection broke: read what the kernel has of a response. Returns whether that was all of it.

        An endpoint may answer before it has read the request, and close: then our next write fails, and tells of the
        end before the response was read.
        """
        if self.decoder is not None and not isinstance(self.decoder, LengthBody | ChunkedBody):
            # Its end could not be told from a break.
            return False
        for data in unread(self.transport):
            self.data_received(data)
            if self._sink is not sink:
                return True
        return False

    def pause_writing(self) -> None:
        """The endpoint reads more slowly than the client sends."""
        if self._sink is not None:
            self._sink.upstream_full(True)

    def resume_writing(self) -> None:
        """The endpoint has caught up."""
        if self._sink is not None:
            self._sink.upstream_full(False)


class UpstreamOwner(Protocol):
    """Who made the connection, and is told what concerns no exchange."""

    def upstream_gone(self, slot: int) -> None:
        """It is closed, or was not made."""

    def idle_lost(self, upstream: Upstream) -> None:
        """The connection was closed while it was idle."""

    def upstream_silent(self, upstream: Upstream) -> None:
        """The endpoint acknowledged nothing for too long: the connection broke."""
