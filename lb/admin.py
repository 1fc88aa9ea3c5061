"""SHELL: the admin port and the probe port, served through the same http1 core as everything else.

GET and HEAD only. The admin port is for people on this machine and checks Host, so that a web page that got its name to
point here (DNS rebinding) reads nothing; kubelet and Prometheus dial a pod's address, so the probe port does not.
"""

from __future__ import annotations

import asyncio
import ipaddress
from functools import partial
from typing import cast

from lb.http1.forwarding import prepare_request
from lb.http1.head import HeadLimits, HeadParser, find_head_end
from lb.http1.message import MessageError, RequestHead
from lb.http1.replies import reply
from lb.pages import Pages
from lb.proxy import Proxy
from lb.sockets import reset
from lb.works import Answer, Order, Prepare

_LIMITS = HeadLimits(head_bytes=16384, target_bytes=2048, fields=100)
_TEXT = b"text/plain; charset=utf-8"
_IDLE_SECONDS = 75.0
_BACKLOG_LIMIT = 16384


class AdminProtocol(asyncio.Protocol):
    """One connection to the admin or the probe port."""

    def __init__(self, proxy: Proxy, pages: Pages, *, admin: bool, allowed_hosts: frozenset[str] = frozenset()) -> None:
        self._proxy = proxy
        self._pages = pages
        self._admin = admin
        self._allowed_hosts = allowed_hosts
        self._parser = HeadParser(_LIMITS)
        self._buffer = b""
        self._scanned = 0
        self._transport: asyncio.Transport | None = None
        self._is_full = False
        self._idle: asyncio.TimerHandle | None = None
        self._order: Order | None = None
        """The answer that is being made for it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request, but not for ever."""
        self._transport = cast(asyncio.Transport, transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        self._transport = None
        if self._order is not None:
            self._pages.works.cancel(self._order)
        if self._idle is not None:
            self._idle.cancel()

    def pause_writing(self) -> None:
        """Who does not read its answers gets no more of them."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Go on."""
        self._is_full = False
        self._serve()

    def data_received(self, data: bytes) -> None:
        """Take requests in."""
        self._buffer += data
        if self._transport is not None and len(self._buffer) > _BACKLOG_LIMIT:
            self._transport.pause_reading()
        self._serve()

    def _wait(self) -> None:
        """Close when nothing moves for a while, with what was not read."""
        if self._idle is not None:
            self._idle.cancel()
        assert self._transport is not None
        self._idle = self._proxy.loop.call_later(_IDLE_SECONDS, reset, self._transport)

    def _serve(self) -> None:
        """Answer one request a turn of the loop: whoever asks for much must not hold up the clients."""
        if self._transport is None or self._transport.is_closing() or not self._buffer:
            return
        if self._is_full or self._order is not None:
            return
        try:
            end = find_head_end(self._buffer, self._scanned, _LIMITS)
            if end < 0:
                self._scanned = len(self._buffer)
                self._transport.resume_reading()
                return
            head = self._parser.request(self._buffer[:end])
            request = prepare_request(head)
            if request.has_body:
                raise MessageError(413, "body", "requests with a body are not served here")
            self._buffer = self._buffer[end:]
            self._scanned = 0
            answer = self._checked(head)
        except MessageError as error:
            self._write((error.status, _TEXT, error.detail.encode() + b"\n"), close=True)
            return
        tell = partial(self._answer, close=not request.persistent, body=not request.is_head)
        if callable(answer):
            self._order = self._pages.works.order(answer, tell)
        else:
            tell(answer)

    def _answer(self, answer: Answer, *, close: bool, body: bool) -> None:
        self._order = None
        assert self._transport is not None
        if self._transport.is_closing():
            return
        self._write(answer, close=close, body=body)
        self._wait()
        if self._buffer:
            self._proxy.loop.call_soon(self._serve)
        else:
            self._transport.resume_reading()

    def _checked(self, head: RequestHead) -> Answer | Prepare:
        if self._admin:
            host = b"".join(head.values(b"host")).decode("latin-1")
            if not self._is_allowed(host):
                return 421, _TEXT, b"this Host is not served here: use the address, or localhost\n"
        return self._pages.answer(head, admin=self._admin)

    def _is_allowed(self, host: str) -> bool:
        """An IP address can't be rebound; of names, only this machine's own are taken."""
        name = host[1 : host.find("]")] if host.startswith("[") else host.partition(":")[0]
        if name.lower() in self._allowed_hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _write(self, answer: Answer, *, close: bool, body: bool = True) -> None:
        assert self._transport is not None
        status, content_type, content = answer
        fields = [b"Allow: GET, HEAD"] if status == 405 else None
        self._transport.write(
            reply(status, content_type, content, date=self._proxy.http_date(), close=close, fields=fields, body=body)
        )
        if close:
            self._transport.close()
