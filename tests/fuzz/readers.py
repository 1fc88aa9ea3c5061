"""The same stream, read by podlb, by h11 and by httptools (llhttp): message after message, and where each ends."""

from __future__ import annotations

from typing import Any, NamedTuple

import h11
import httptools

from lb.http1.forwarding import prepare_request
from lb.http1.framing import LENGTH, NO_BODY, Framing, body_decoder
from lb.http1.head import HeadLimits, HeadParser, find_head_end
from lb.http1.message import MessageError
from lb.http1.responses import prepare_response

LIMITS = HeadLimits()
Fields = list[tuple[bytes, bytes]]
Start = tuple[bytes, bytes, int]
"""Method, target and minor version; or status, reason and minor version."""


class Read(NamedTuple):
    """One message, complete unless it is the last of a stream that is not."""

    start: Start
    fields: Fields
    framing: int
    body: bytes
    trailers: Fields
    begin: int
    """Where in the stream it begins, behind the empty lines before it."""
    end: int
    """Where in the stream the next message begins; -1: it is not complete."""
    sent: bytes = b""
    """The start line as podlb forwards it."""


class Stream(NamedTuple):
    """All that was read of a stream."""

    messages: list[Read]
    refused: str
    """What was wrong with the next message, or nothing."""


def _pairs(lines: list[bytes]) -> Fields:
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]


def _body(data: bytes, at: int, framing: Framing, status: int) -> tuple[bytes, Fields, int]:
    """Return a body that begins at `at`, its trailers, and where it ends; -1 if it does not."""
    if framing.kind == NO_BODY or (framing.kind == LENGTH and not framing.length):
        return b"", [], at
    decoder = body_decoder(framing, status=status)
    body, done = decoder.feed(data[at:])
    return body, _pairs(decoder.trailers), len(data) - len(decoder.excess) if done else -1


def podlb_requests(data: bytes, parser: HeadParser) -> Stream:
    """Read a client's stream as a connection does."""
    messages: list[Read] = []
    at = empty = 0
    try:
        while at < len(data):
            if data.startswith(b"\r\n", at):
                empty += 1
                if empty > 2:
                    return Stream(messages, "empty_lines")
                at += 2
                continue
            size = find_head_end(data[at:], 0, LIMITS)
            if size < 0:
                break
            head = parser.request(data[at : at + size])
            request = prepare_request(head)
            start = (head.method, head.target, head.minor)
            sent = request.prefix[: request.prefix.find(b"\r\n")]
            read = Read(start, _pairs(head.lines), request.framing.kind, b"", [], at, -1, sent)
            body, trailers, end = _body(data, at + size, request.framing, 400)
            messages.append(read._replace(body=body, trailers=trailers, end=end))
            if end < 0 or not request.persistent:
                break
            at, empty = end, 0
    except MessageError as error:
        return Stream(messages, error.what)
    return Stream(messages, "")


def podlb_responses(data: bytes, parser: HeadParser) -> Stream:
    """Read an endpoint's stream as connections do, one response to GET after the other while it may be reused."""
    messages: list[Read] = []
    at = 0
    try:
        while at < len(data):
            size = find_head_end(data[at:], 0, LIMITS)
            if size < 0:
                break
            head = parser.response(data[at : at + size])
            response = prepare_response(head)
            if head.status == 101:
                return Stream(messages, "upgrade")
            start = (b"%d" % head.status, head.reason, head.minor)
            read = Read(start, _pairs(head.lines), response.framing.kind, b"", [], at, -1)
            body, trailers, end = _body(data, at + size, response.framing, 502)
            messages.append(read._replace(body=body, trailers=trailers, end=end))
            if end < 0 or (head.status >= 200 and not response.reusable):
                break
            at = end
    except MessageError as error:
        return Stream(messages, error.what)
    return Stream(messages, "")


def _h11_message(connection: h11.Connection, data: bytes) -> Read | str:
    """Let h11 read one message, the last of a stream or not; return what it refused if it did."""
    head: h11.Request | h11.Response | h11.InformationalResponse | None = None
    body = []
    trailers: Fields = []
    end = -1
    connection.receive_data(data)
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, (h11.Request, h11.Response, h11.InformationalResponse)):
                head = event
                if isinstance(head, h11.InformationalResponse):
                    end = len(data) - len(connection.trailing_data[0])
                    break
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                trailers = event.headers.raw_items()
                end = len(data) - len(connection.trailing_data[0])
                break
            else:
                break
    except h11.RemoteProtocolError as error:
        return str(error)
    if head is None:
        return "no head"
    minor = 1 if head.http_version == b"1.1" else 0
    if isinstance(head, h11.Request):
        start = (head.method, head.target, minor)
    else:
        start = (b"%d" % head.status_code, head.reason, minor)
    return Read(start, head.headers.raw_items(), -1, b"".join(body), trailers, 0, end)


def h11_request(data: bytes) -> Read | str:
    """Read one request with h11 alone; `end` counts from its beginning."""
    return _h11_message(h11.Connection(h11.SERVER, max_incomplete_event_size=len(data) + 1), data)


def h11_response(data: bytes) -> Read | str:
    """Read one response to GET with h11 alone."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=len(data) + 1)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    connection.send(h11.EndOfMessage())
    return _h11_message(connection, data)


class _Events:
    """What httptools calls, message after message."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.url = self.reason = b""
        self.fields: Fields = []
        self.trailers: Fields = []
        self.body: list[bytes] = []
        self.has_head = False
        self.completed = 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        (self.trailers if self.has_head else self.fields).append((name, value))

    def on_headers_complete(self) -> None:
        self.has_head = True

    def on_body(self, data: bytes) -> None:
        self.body.append(data)

    def on_message_complete(self) -> None:
        self.completed += 1


class Llhttp:
    """Reads a stream with one parser of httptools, in its strict mode, message after message."""

    def __init__(self, *, responses: bool) -> None:
        self._is_response = responses
        self._events = _Events()
        self._parser: Any = (httptools.HttpResponseParser if responses else httptools.HttpRequestParser)(self._events)

    def read(self, data: bytes, *, complete: bool) -> Read | str:
        """Read `data`, which should be one message, `complete` or not; return what was wrong, if anything was.

        That it ends with its last byte and not before is seen from that byte coming alone.
        """
        events = self._events
        events.forget()
        try:
            self._parser.feed_data(data[:-1])
            if events.completed:
                return f"it ends before byte {len(data) - 1}"
            self._parser.feed_data(data[-1:])
        except httptools.HttpParserUpgrade:
            return "upgrade"
        except httptools.HttpParserError as error:
            return f"{type(error).__name__}: {error}"
        if bool(events.completed) is not complete:
            return "it is not complete" if complete else "it is complete"
        if not events.has_head:
            return "no head"
        minor = 1 if self._parser.get_http_version() == "1.1" else 0
        if self._is_response:
            start = (b"%d" % self._parser.get_status_code(), events.reason, minor)
        else:
            start = (self._parser.get_method(), events.url, minor)
        return Read(start, events.fields, -1, b"".join(events.body), events.trailers, 0, len(data) if complete else -1)
