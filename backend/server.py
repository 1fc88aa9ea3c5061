"""SHELL: one HTTP/1.1 connection: h11 reads and writes the heads and the framing, `app` decides, this does it.

A connection serves one request at a time, in order:

    =======  ============================================  ======================================================
    state    meaning                                       left for
    =======  ============================================  ======================================================
    READING  idle, or a request is on its way in           WAITING at its end; SENDING (a refusal) if it is bad
    WAITING  held, delayed, or burning processor time      SENDING
    SENDING  the reply is on its way out                   READING, or CLOSING if the connection can't go on
    CLOSING  half-closed, what still arrives is dropped    the client closes, or `LINGER` is over
    =======  ============================================  ======================================================

A client that does not take what was written keeps its connection in SENDING. Out of READING, bytes that arrive are put
aside, up to `UNREAD_LIMIT`; beyond that the socket is left unread. CLOSING is there because closing a socket with
unread bytes sends an RST, which can overtake the reply (RFC 9112, section 9.6).
"""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import socket
import struct
from contextlib import suppress
from http import HTTPStatus

import h11

from backend.app import PIECE_LIMIT, Reply, Request, RequestBody, refusal
from backend.cpu import Burn
from backend.logs import printable
from backend.shared import Shared

log = logging.getLogger(__name__)

HEAD_LIMIT = 64 * 1024
"""Bytes of a request head: more than a load balancer lets through."""
UNREAD_LIMIT = 64 * 1024
"""Bytes that may arrive ahead of their turn before the socket is left unread."""
PIECES_PER_TURN = 16
"""Pieces of a body that are written before others get their turn."""
DRIPS_PER_SECOND = 20
"""How many pieces per second a dripping body is cut into, if it has that many bytes."""
LINGER = 1.0
"""Seconds that a client is given to close its side, or, when we stop, to send a request that may be on its way."""

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_CLOSE = (b"Connection", b"close")
_RST_ON_CLOSE = struct.pack("ii", 1, 0)


class State(enum.Enum):
    """What a connection is doing; the table above."""

    READING = enum.auto()
    WAITING = enum.auto()
    SENDING = enum.auto()
    CLOSING = enum.auto()


class Connection(asyncio.Protocol):
    """One connection from a client."""

    _transport: asyncio.Transport
    _request: Request
    _body: RequestBody
    _reply: Reply

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._loop = shared.loop
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        self._state = State.READING
        self._unread = bytearray()
        self._is_eof = False
        self._is_write_paused = False
        self._is_fresh = True
        self._local_address = ""
        self._pending: asyncio.Handle | Burn | None = None
        self._head = b""
        self._sent = 0
        self._sending_since = 0.0

    # The transport's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        address = transport.get_extra_info("sockname")
        if address is not None:
            self._local_address = address[0].removeprefix("::ffff:")
        self._shared.connections.add(self)
        if self._shared.is_stopping:
            self.stop()

    def data_received(self, data: bytes) -> None:
        """Serve what is here, or put it aside until its turn."""
        if self._state is State.CLOSING:
            return
        if self._can_read():
            self._http.receive_data(data)
            self._serve()
        else:
            self._unread += data
            if len(self._unread) > UNREAD_LIMIT:
                self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Keep our side open for what was received before the end, unless nobody will answer it."""
        self._is_eof = True
        if self._state is State.CLOSING or self in self._shared.held:
            return False
        self._serve()
        return True

    def pause_writing(self) -> None:
        """Write no more: the client does not keep up."""
        self._is_write_paused = True

    def resume_writing(self) -> None:
        """Write on: the client keeps up again."""
        self._is_write_paused = False
        if self._state is State.SENDING and self._pending is None:
            self._send_pieces()
        self._serve()

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop whatever was going on."""
        self._state = State.CLOSING
        if self._pending is not None:
            self._pending.cancel()
        self._shared.connection_lost(self)

    # Requests

    def _can_read(self) -> bool:
        return self._state is State.READING and not self._transport.is_closing()

    def _serve(self) -> None:
        """Take up one request after the other, until there is something to wait for."""
        while self._can_read():
            if self._unread:
                self._http.receive_data(bytes(self._unread))
                self._unread.clear()
                self._transport.resume_reading()
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                self._start_sending(refusal(error.error_status_hint, str(error)))
                return
            match event:
                case h11.Request():
                    self._request_head_received(event)
                case h11.Data():
                    self._body.feed(event.data)
                case h11.EndOfMessage():
                    self._is_fresh = False
                    self.ask()
                case h11.ConnectionClosed():
                    self._transport.close()
                case _:
                    if self._shared.is_stopping:
                        self.stop()
                    if not self._is_eof:
                        return
                    self._http.receive_data(b"")

    def _request_head_received(self, event: h11.Request) -> None:
        self._request = Request(
            event.method.decode("ascii"),
            event.target.decode("ascii"),
            event.headers.raw_items(),
            event.http_version.decode("ascii"),
            self._local_address,
        )
        if self._shared.is_logging:
            request_id = next((value for name, value in event.headers if name == b"x-request-id"), b"-")
            log.info(
                "request %s %s id=%s",
                self._request.method,
                printable(self._request.target),
                printable(request_id.decode("latin-1")),
            )
        self._body = self._shared.app.request_head_received(self._request)
        if self._http.they_are_waiting_for_100_continue:
            self._transport.write(
                self._http.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
            )

    def ask(self) -> None:
        """Ask what to do about the request, for the first time or when a fault that held it is over."""
        self._state = State.WAITING
        reply = self._shared.app.request_received(self._request, self._body, self._loop.time())
        if reply.is_held:
            self._shared.held.add(self)
            if self._is_eof:
                self._transport.close()
        elif reply.delay:
            self._pending = self._loop.call_later(reply.delay, self._delayed, reply)
        else:
            self._burn(reply)

    def ask_again(self) -> None:
        """Go on with a request that a fault held."""
        self.ask()
        self._serve()

    # Replies

    def _delayed(self, reply: Reply) -> None:
        self._pending = None
        self._burn(reply)
        self._serve()

    def _burn(self, reply: Reply) -> None:
        if reply.cpu:
            self._pending = self._shared.burner.burn(reply.cpu, lambda: self._burnt(reply))
        else:
            self._start_sending(reply)

    def _burnt(self, reply: Reply) -> None:
        self._pending = None
        self._start_sending(reply)
        self._serve()

    def _start_sending(self, reply: Reply) -> None:
        self._state = State.SENDING
        self._reply = reply
        if not reply.is_answered:
            self._end_reply()
            return
        fields = [*reply.fields, (b"Date", self._shared.date())]
        if reply.is_close or self._shared.app.is_draining:
            fields.append(_CLOSE)
        self._head = self._http.send(
            h11.Response(status_code=reply.status, headers=fields, reason=_REASONS.get(reply.status, b""))
        )
        self._sent = 0
        self._sending_since = self._loop.time()
        self._send_pieces()

    def _send_pieces(self) -> None:
        """Write as much of the reply as the client takes now, the head together with the first piece."""
        reply, end = self._reply, self._reply.cut_at
        piece_length = min(max(1, reply.drip // DRIPS_PER_SECOND), PIECE_LIMIT) if reply.drip else PIECE_LIMIT
        for _ in range(PIECES_PER_TURN):
            if self._is_write_paused or self._transport.is_closing():
                return
            length = min(piece_length, end - self._sent)
            data = self._head + self._http.send(h11.Data(data=reply.piece(self._sent, length)))
            self._head = b""
            self._sent += length
            if self._sent == end:
                self._transport.write(data if reply.is_reset else data + self._http.send(h11.EndOfMessage()))
                self._end_reply()
                return
            self._transport.write(data)
            if reply.drip and (due := self._sending_since + self._sent / reply.drip) > self._loop.time():
                self._pending = self._loop.call_at(due, self._send_more)
                return
        self._pending = self._loop.call_soon(self._send_more)

    def _send_more(self) -> None:
        self._pending = None
        self._send_pieces()
        self._serve()

    def _end_reply(self) -> None:
        reply = self._reply
        if reply.is_exit:
            log.warning("fault: exit")
            os._exit(1)
        if reply.is_reset:
            self.reset()
            return
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._state = State.READING
        else:
            self._close_in_order()
        if reply.is_fault_changed:
            self._shared.fault_changed()

    # Ends

    def reset(self) -> None:
        """End the connection now, with an RST: `abort` alone would look like a good end."""
        self._state = State.CLOSING
        with suppress(OSError):
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
        self._transport.abort()

    def stop(self) -> None:
        """Close if idle; what is in flight is finished. A first request may be on its way: it is waited for."""
        if self._is_between_requests():
            if self._is_fresh or self._http.trailing_data[0]:
                self._loop.call_later(LINGER, self._stop_waiting)
            else:
                self._transport.close()

    def _stop_waiting(self) -> None:
        if self._is_between_requests():
            self._transport.close()

    def _is_between_requests(self) -> bool:
        return self._state is State.READING and self._http.their_state is h11.IDLE

    def _close_in_order(self) -> None:
        self._state = State.CLOSING
        self._unread.clear()
        if self._is_eof:
            self._transport.close()
            return
        try:
            self._transport.write_eof()
        except OSError:  # the client has reset the connection, which is not reported yet
            self._transport.abort()
            return
        self._transport.resume_reading()
        self._pending = self._loop.call_later(LINGER, self._transport.close)
