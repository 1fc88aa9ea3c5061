"""The head we received → the head we send (RFC 9110, section 7.6).

What a request or response needs on its way is worked out once, in `prepare_request` and `prepare_response`, and kept in
one object. A byte-identical head that was prepared before (keep-alive clients, probes, the responses of one second) is
answered from a small bounded cache, but not where h11 is to read every head: `RequestReader` and `ResponseReader`.
"""

from __future__ import annotations

import re
from array import array
from typing import Generic, TypeVar

from lb.endpoint import Endpoint
from lb.http1.framing import CHUNKED, LENGTH, NO_BODY, UNTIL_CLOSE, Framing, request_framing, response_framing
from lb.http1.head import HeadParser
from lb.http1.message import MessageError, RequestHead, ResponseHead, list_members

_CRLF = b"\r\n"

# What Connection nearly always says: nothing to remove.
_KEEP_ALIVE = frozenset([b"keep-alive", b"Keep-Alive", b"keep-Alive", b"Keep-alive"])

# RFC 9110, section 9.2.2.
_IDEMPOTENT = frozenset([b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"])

# RFC 3986, section 3.2.2: reg-name or IPv4address, or IP-literal; then an optional port.
_AUTHORITY = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)(?::([0-9]{0,5}))?"
)
_ABSOLUTE_FORM = re.compile(rb"(?i:http)://([^/?#]*)([^#]*)")
_REQUEST_ID = re.compile(rb"[!-~]{1,128}")

_CACHED_HEADS = 512
# Larger heads, a browser's, hardly ever come twice, and hashing one to find that out costs a tenth of reading it.
CACHED_HEAD_BYTES = 512
_CACHED_HOST_BYTES = 260
_SEEN_SLOTS = 1024

_CHUNKED = Framing(CHUNKED)
_UNTIL_CLOSE = Framing(UNTIL_CLOSE)

H = TypeVar("H")


class Request:
    """A request as it is forwarded: everything that the data path needs to know of its head."""

    __slots__ = (
        "chunked",
        "framing",
        "has_body",
        "host_at",
        "idempotent",
        "is_head",
        "method",
        "minor",
        "persistent",
        "prefix",
        "request_id",
        "target",
    )

    def __init__(self, head: RequestHead, framing: Framing, prefix: bytes) -> None:
        self.method = head.method
        self.target = head.target
        self.minor = head.minor
        self.framing = framing
        self.prefix = prefix
        """The head to send, up to the value of X-Forwarded-For."""
        self.request_id: bytes | None = None
        """The client's own X-Request-Id, where it may be kept."""
        self.is_head = head.method == b"HEAD"
        self.idempotent = head.method in _IDEMPOTENT
        self.has_body = framing.kind != NO_BODY
        self.chunked = framing.kind == CHUNKED
        self.persistent = True
        """May another request follow on the client's connection?"""
        self.host_at = 0
        """Where in `prefix` the endpoint's address goes as Host, if the client (HTTP/1.0) sent none; else 0."""

    def head_for(self, endpoint: Endpoint, forwarded_for: bytes, request_id: bytes) -> bytes:
        """Return the head to send to `endpoint`, for the client at `forwarded_for`."""
        prefix = self.prefix
        if self.host_at:
            host = endpoint.authority.encode()
            prefix = b"%bHost: %b\r\n%b" % (prefix[: self.host_at], host, prefix[self.host_at :])
        return b"%b%b\r\nX-Request-Id: %b\r\n\r\n" % (prefix, forwarded_for, request_id)


def prepare_request(head: RequestHead) -> Request:
    """Return what is forwarded for `head`. Raises MessageError for what may not be forwarded."""
    method = head.method
    if method in (b"CONNECT", b"TRACE"):
        raise MessageError(405, "method", f"{method.decode()} is not allowed here")
    framing = request_framing(head)
    host: bytes | None = None
    request_ids: list[bytes] = []
    options = b""
    kept = head.lines.copy()
    for key, value, line in head.special:
        kept.remove(line)
        if key == b"host":
            if host is not None:
                raise MessageError(400, "host", "Host is missing or repeated")
            host = value
        elif key == b"connection":
            options = options + b"," + value if options else value
        elif key == b"x-request-id":
            request_ids.append(value)
    target = head.target
    if not target.startswith(b"/"):
        host, target = _other_form(head, host)
    elif b"#" in target:
        # RFC 9112, section 3.2.1: a path and a query. A fragment never goes to a server.
        raise MessageError(400, "target", "the request target has a fragment")
    if host is None:
        if head.minor:
            raise MessageError(400, "host", "Host is missing or repeated")
        host_line = forwarded_host = b""
    else:
        host_line, forwarded_host = _host_lines(host)

    persistent = head.minor == 1
    if options and options not in _KEEP_ALIVE:
        named = frozenset(list_members(options))
        persistent = persistent and b"close" not in named
        kept = _without(kept, named)
    start_line = b"%b %b HTTP/1.1\r\n" % (method, target)
    kept.append(b"")
    prefix = b"".join(
        [
            start_line,
            host_line,
            _CRLF.join(kept),
            _framing_line(framing) if framing.kind else b"",
            forwarded_host,
            b"X-Forwarded-Proto: http\r\nVia: 1.1 podlb\r\nX-Forwarded-For: "
            if head.minor
            else b"X-Forwarded-Proto: http\r\nVia: 1.0 podlb\r\nX-Forwarded-For: ",
        ]
    )
    request = Request(head, framing, prefix)
    if request_ids and len(request_ids) == 1 and _REQUEST_ID.fullmatch(request_ids[0]):
        request.request_id = request_ids[0]
    request.host_at = len(start_line) if host is None else 0
    # RFC 9112, section 9.3: a proxy must not keep an HTTP/1.0 client's connection.
    request.persistent = persistent
    return request


def _without(lines: list[bytes], named: frozenset[bytes]) -> list[bytes]:
    """Return the field lines whose names are not among `named` (RFC 9110, section 7.6.1)."""
    return [line for line in lines if line.partition(b":")[0].lower() not in named]


_host_lines_seen: dict[bytes, tuple[bytes, bytes]] = {}


def _host_lines(host: bytes) -> tuple[bytes, bytes]:
    """Return the lines Host and X-Forwarded-Host. Raises MessageError for an invalid host.

    Remembers valid ones: checking costs 1 µs, and a service has few names.
    """
    lines = _host_lines_seen.get(host)
    if lines is None:
        match = _AUTHORITY.fullmatch(host)
        if match is None or (match[1] and int(match[1]) > 65535):
            raise MessageError(400, "host", "Host is not a valid host and port")
        lines = (b"Host: %b\r\n" % host, b"X-Forwarded-Host: %b\r\n" % host)
        # A DNS name has at most 253 characters: what is longer is nobody's, and would cost memory.
        if len(host) <= _CACHED_HOST_BYTES:
            if len(_host_lines_seen) >= _CACHED_HEADS:
                _host_lines_seen.clear()
            _host_lines_seen[host] = lines
    return lines


def _other_form(head: RequestHead, host: bytes | None) -> tuple[bytes | None, bytes]:
    """Return host and target of a request whose target is not in origin-form (RFC 9112, section 3.2)."""
    if head.target == b"*" and head.method == b"OPTIONS":
        return host, head.target
    match = _ABSOLUTE_FORM.fullmatch(head.target)
    if match is None or not match[1]:
        raise MessageError(400, "target", "the request target is neither a path nor an http:// address")
    target = match[2]
    if not target:
        target = b"*" if head.method == b"OPTIONS" else b"/"
    elif target.startswith(b"?"):
        target = b"/" + target
    # RFC 9112, section 3.2.2: the authority replaces the received Host.
    return match[1], target


def _framing_line(framing: Framing) -> bytes:
    if framing.kind == LENGTH:
        return b"Content-Length: %d\r\n" % framing.length
    return b"Transfer-Encoding: chunked\r\n" if framing.kind == CHUNKED else b""


def framing_for_client(framing: Framing, minor: int) -> Framing:
    """Return how a response's body is framed for a client that speaks HTTP/1.`minor`."""
    if framing.kind in (CHUNKED, UNTIL_CLOSE):
        # HTTP/1.0 has no chunks: there the end of the connection ends the body.
        return _CHUNKED if minor else _UNTIL_CLOSE
    return framing


class Response:
    """A response as it is forwarded: everything that the data path needs to know of its head."""

    __slots__ = (
        "_fields",
        "_length",
        "body_size",
        "chunked",
        "closing",
        "framing",
        "has_date",
        "minor",
        "plain",
        "reusable",
        "reusable_after_head",
        "status",
        "status_class",
    )

    def __init__(self, head: ResponseHead, framing: Framing, fields: bytes, length: bytes) -> None:
        self.status = head.status
        self.status_class = head.status // 100
        self.minor = head.minor
        self.framing = framing
        """How the body is framed, if the request was not HEAD."""
        self.chunked = framing.kind == CHUNKED
        is_known = head.status >= 200 and framing.kind in (NO_BODY, LENGTH)
        self.body_size = framing.length if is_known else -1
        """How long the body is, in bytes; -1 if that is not known, or if this is not the final response."""
        self._fields = fields
        self._length = length
        self.has_date = True
        self.reusable = False
        """May another request follow on the endpoint's connection?"""
        self.reusable_after_head = False
        """The same for HEAD, whose response has no body that only the connection's end could end."""
        self.plain: bytes | None = None
        """The whole head to send in the common case: the client keeps its connection, the framing stays as it is."""
        self.closing: bytes | None = None
        """The same for a client whose connection is closed behind this response."""

    def head_for(self, *, framing: Framing, close: bool, date: bytes) -> bytes:
        """Return the head to send with a body framed by `framing`; `date` is the value for a Date that is missing."""
        return b"%b%b%b%b\r\n" % (
            self._fields,
            self._length if framing.kind == NO_BODY else _framing_line(framing),
            b"" if self.has_date else b"Date: %b\r\n" % date,
            b"Connection: close\r\n" if close else b"",
        )


def prepare_response(head: ResponseHead) -> Response:
    """Return what is forwarded for `head`. Raises MessageError(502)."""
    framing, trusted = response_framing(head)
    status = head.status
    options = b""
    length = b""
    has_date = False
    kept = head.lines.copy()
    for key, value, line in head.special:
        if key == b"date":
            has_date = True
            continue
        kept.remove(line)
        if key == b"connection":
            options = options + b"," + value if options else value
        elif key == b"content-length":
            length = b"Content-Length: %b\r\n" % value
    persistent = head.minor == 1
    if options and options not in _KEEP_ALIVE:
        named = frozenset(list_members(options))
        persistent = persistent and b"close" not in named
        has_date = has_date and b"date" not in named
        kept = _without(kept, named)
    # RFC 9110, section 8.6: no Content-Length in 1xx and 204; to HEAD and in 304 it tells what there would have been.
    if status < 200 or status == 204 or framing.kind == CHUNKED:
        length = b""
    fields = b"HTTP/1.1 %d %b\r\n%b" % (status, head.reason, _CRLF.join([*kept, b""]))
    response = Response(head, framing, fields, length)
    response.has_date = has_date
    response.reusable = trusted and persistent
    response.reusable_after_head = persistent and (trusted or framing.kind == UNTIL_CLOSE)
    if response.has_date and framing.kind in (LENGTH, CHUNKED, NO_BODY):
        response.plain = response.head_for(framing=framing, close=False, date=b"")
        response.closing = response.head_for(framing=framing, close=True, date=b"")
    return response


class _HeadCache(Generic[H]):
    """Remembers what a head came to, for the next one that is the same to the byte.

    A head is kept from the second time it is seen: heads that all differ would only push the others out, and keeping
    one costs ten times as much as noticing it.
    """

    def __init__(self, *, enabled: bool) -> None:
        self._kept: dict[bytes, H] = {}
        self._seen = array("q", bytes(8 * _SEEN_SLOTS)) if enabled else None
        self.get = self._kept.get

    def offer(self, raw: bytes, prepared: H) -> None:
        """Keep what `raw` came to, if it was seen before."""
        if self._seen is None or len(raw) > CACHED_HEAD_BYTES:
            return
        mark = hash(raw)
        slot = mark % _SEEN_SLOTS
        if self._seen[slot] != mark:
            self._seen[slot] = mark
            return
        if len(self._kept) >= _CACHED_HEADS:
            self._kept.clear()
        self._kept[raw] = prepared


class RequestReader:
    """Reads and prepares request heads, remembering those without a body that come again and again.

    `get` is the cache itself: bytes that are one whole head → Request or None.
    """

    def __init__(self, parser: HeadParser) -> None:
        self._parser = parser
        self.limits = parser.limits
        self._cache: _HeadCache[Request] = _HeadCache(enabled=parser.has_recogniser)
        self.get = self._cache.get

    def read(self, raw: bytes) -> Request:
        """Return the request whose head is `raw`. Raises MessageError."""
        request = self.get(raw) if len(raw) <= CACHED_HEAD_BYTES else None
        if request is None:
            request = prepare_request(self._parser.request(raw))
            if request.framing.kind == NO_BODY:
                self._cache.offer(raw, request)
        return request


class ResponseReader:
    """Reads and prepares response heads, remembering those that come again and again."""

    def __init__(self, parser: HeadParser) -> None:
        self._parser = parser
        self.limits = parser.limits
        self._cache: _HeadCache[Response] = _HeadCache(enabled=parser.has_recogniser)
        self.get = self._cache.get
        self.latest: tuple[bytes, Response] | None = None
        """The head that was last taken out of the cache, and what it came to.

        Responses of one second often begin alike: comparing costs 20 ns, looking a head up 150.
        """

    def look_up(self, data: bytes) -> tuple[bytes, Response] | None:
        """Return the head that `data` begins with, and what it came to, if it is in the cache."""
        end = data.find(b"\r\n\r\n") + 4
        head = data[:end]
        # (Without an empty line, no head is that short.)
        response = self.get(head)
        if response is None:
            return None
        self.latest = found = (head, response)
        return found

    def read(self, raw: bytes) -> Response:
        """Return the response whose head is `raw`. Raises MessageError(502)."""
        response = self.get(raw)
        if response is None:
            try:
                response = prepare_response(self._parser.response(raw))
            except MessageError as error:
                raise MessageError(502, error.what, error.detail) from None
            self._cache.offer(raw, response)
        return response
