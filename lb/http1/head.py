"""Bytes → RequestHead or ResponseHead. The only module of lb that imports h11.

Two readers. h11 is the authority and costs 17 µs for a 40-byte head, 37 µs for a browser's. In front of it stands the
recogniser, which may only accept (tests/fuzz compares the two); whatever it declines goes to h11. `recogniser=False`
reads every head with h11.

h11 accepts more than a proxy may (bare LF, folded lines, control bytes; it folds repeated Content-Lengths into one), so
the rules on raw bytes are checked here before h11 sees them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, Protocol

import h11

from lb.http1.message import (
    TOKEN,
    Field,
    MessageError,
    RequestHead,
    ResponseHead,
    coding_error,
    field_line,
    is_special_in_requests,
    is_special_in_responses,
    values_of,
)
from lb.http1.recogniser import Recogniser

_CRLF = b"\r\n"
_LENGTH = re.compile(rb"[0-9]{1,18}")
_BARE_LINE_END = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_BARE_LINE_END_SO_FAR = re.compile(rb"\r(?!\n|\Z)|(?<!\r)\n")
_CAN_BEGIN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z\r-]")
_FOLDED = re.compile(rb"\r\n[ \t]")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_VERSION = re.compile(rb"HTTP/([0-9]\.[0-9])")
_FIELD_NAME = re.compile(TOKEN)


class HeaderItems(Protocol):
    """What h11 gives for the fields of a head."""

    def raw_items(self) -> list[tuple[bytes, bytes]]:
        """Return names, in the case in which they came, and values."""


class HeadLimits(NamedTuple):
    """The largest head that is read: bytes of the head, bytes of a request target, number of fields."""

    head_bytes: int = 32768
    target_bytes: int = 8192
    fields: int = 100


def find_head_end(data: bytes, scanned: int, limits: HeadLimits) -> int:
    """Return the index behind the empty line that ends the head at the start of `data`, or -1 if there is none yet.

    `scanned` is the length of `data` at the last call: what was searched is not searched again. Raises MessageError
    when the head can never become acceptable: a client that sends bare LFs is told at once, not at its time-out.
    """
    end = data.find(b"\r\n\r\n", scanned - 3 if scanned > 3 else 0) + 4
    if end >= 4:
        if end <= limits.head_bytes:
            return end
    else:
        if len(data) > limits.target_bytes + 32 and _CRLF not in data:
            raise MessageError(414, "target_too_long", f"the request target is over {limits.target_bytes} bytes")
        if _BARE_LINE_END_SO_FAR.search(data, max(scanned - 1, 0)):
            raise MessageError(400, "bare_line_end", "a line ends with a bare CR or LF")
        if data and _CAN_BEGIN.match(data) is None:
            # TLS, for one: its first byte can't begin a method, and its client waits for us.
            raise MessageError(400, "start_line", "this is not the beginning of an HTTP message")
        if len(data) <= limits.head_bytes:
            return -1
    raise MessageError(431, "head_too_large", f"the head is over {limits.head_bytes} bytes")


class HeadParser:
    """Reads complete heads. One instance serves all connections."""

    def __init__(self, limits: HeadLimits, *, recogniser: bool = True) -> None:
        self.limits = limits
        self._recogniser = Recogniser() if recogniser else None

    @property
    def has_recogniser(self) -> bool:
        """Does anything but h11 read heads?"""
        return self._recogniser is not None

    def request(self, raw: bytes) -> RequestHead:
        """Read a request head, complete with the empty line that ends it.

        Raises MessageError with the status for the client (RFC 9112, sections 2 to 6).
        """
        head = self._recogniser.request(raw) if self._recogniser is not None else None
        if head is None:
            self._check_count(raw.count(_CRLF) - 2)
            head = _read_request(raw)
        _, target_bytes, fields = self.limits
        if len(head.lines) > fields:
            self._check_count(len(head.lines))
        if len(head.target) > target_bytes:
            raise MessageError(414, "target_too_long", f"the request target is over {target_bytes} bytes")
        return head

    def response(self, raw: bytes) -> ResponseHead:
        """Read a response head, complete with the empty line that ends it. Raises MessageError."""
        head = self._recogniser.response(raw) if self._recogniser is not None else None
        if head is None:
            self._check_count(raw.count(_CRLF) - 2)
            head = _read_response(raw)
        if len(head.lines) > self.limits.fields:
            self._check_count(len(head.lines))
        return head

    def _check_count(self, fields: int) -> None:
        if fields > self.limits.fields:
            raise MessageError(431, "too_many_fields", f"the head has over {self.limits.fields} fields")


def _check_raw(raw: bytes) -> list[bytes]:
    """Check the rules on raw bytes that h11 does not have; return the lines of the head."""
    if _BARE_LINE_END.search(raw):
        raise MessageError(400, "bare_line_end", "a line ends with a bare CR or LF")
    if _FOLDED.search(raw):
        raise MessageError(400, "folded_line", "a field is folded over more than one line")
    if _CONTROL.search(raw):
        raise MessageError(400, "control_character", "the head contains a control character")
    return raw[:-4].split(_CRLF)


def _read_request(raw: bytes) -> RequestHead:
    lines = _check_raw(raw)
    parts = lines[0].split(b" ")
    if len(parts) == 3 and (version := _VERSION.fullmatch(parts[2])) and version[1] not in (b"1.0", b"1.1"):
        raise MessageError(505, "version", "this server speaks HTTP/1.1 and HTTP/1.0")
    lengths = values_of(lines[1:], b"content-length")
    if len(lengths) > 1:
        raise MessageError(400, "content_length", "Content-Length is repeated")
    if lengths and _LENGTH.fullmatch(lengths[0]) is None:
        raise MessageError(400, "content_length", "Content-Length is not a plain decimal number of at most 18 digits")
    codings = values_of(lines[1:], b"transfer-encoding")
    if len(codings) > 1:
        raise MessageError(400, "transfer_encoding", "Transfer-Encoding is repeated")
    if lengths and codings:
        raise MessageError(400, "content_length_and_transfer_encoding", "both Content-Length and Transfer-Encoding")

    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(raw) + 1)
    connection.receive_data(raw)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        if error.error_status_hint == 501:
            raise coding_error(values_of(lines[1:], b"transfer-encoding")) from None
        raise MessageError(400, *_explain(lines, error)) from None
    if not isinstance(event, h11.Request):
        raise MessageError(400, "malformed", "this is not an HTTP/1.1 request")
    minor = 1 if event.http_version == b"1.1" else 0
    return RequestHead(event.method, event.target, minor, *_fields(event.headers, is_special_in_requests))


def _fields(headers: HeaderItems, is_special: Callable[[bytes], bool]) -> tuple[list[bytes], list[Field]]:
    """Return all field lines, and the fields that must be looked at."""
    lines = []
    special = []
    for name, value in headers.raw_items():
        line = field_line(name, value)
        lines.append(line)
        key = name.lower()
        if is_special(key):
            special.append(Field(key, value, line))
    return lines, special


def _explain(lines: list[bytes], error: h11.RemoteProtocolError) -> tuple[str, str]:
    """Return the word and the sentence for what h11 refused, without quoting the peer's bytes."""
    text = str(error)
    if "request line" in text or "status line" in text:
        return "start_line", "the start line is malformed"
    if "header line" in text:
        name = next(
            (name for line in lines[1:] if _FIELD_NAME.fullmatch(name := line.partition(b":")[0]) is None),
            None,
        )
        return (
            ("field_name", "a field name is malformed") if name is not None else ("field_line", "a field is malformed")
        )
    if "Transfer-Encoding" in text:
        return "transfer_encoding", "Transfer-Encoding is not exactly one chunked"
    if "Content-Length" in text:
        return "content_length", "Content-Length is repeated or malformed"
    if "Host" in text:
        return "host", "Host is missing or repeated"
    return "malformed", "the head is malformed"


# h11 reads a response only behind a request, and 101 only behind one that asked for it.
_ASKED = h11.Request(method="GET", target="/", headers=[("Host", "h")])
_ASKED_TO_SWITCH = h11.Request(
    method="GET", target="/", headers=[("Host", "h"), ("Connection", "upgrade"), ("Upgrade", "any")]
)


def _read_response(raw: bytes) -> ResponseHead:
    lines = _check_raw(raw)
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=len(raw) + 1)
    connection.send(_ASKED_TO_SWITCH if raw[9:12] == b"101" else _ASKED)
    connection.send(h11.EndOfMessage())
    connection.receive_data(raw)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise MessageError(502, *_explain(lines, error)) from None
    if not isinstance(event, (h11.Response, h11.InformationalResponse)):
        raise MessageError(502, "malformed", "this is not an HTTP/1.1 response")
    if event.http_version not in (b"1.0", b"1.1"):
        raise MessageError(502, "version", "the endpoint answered in another version of HTTP")
    if not 100 <= event.status_code <= 599:
        raise MessageError(502, "status", "the status code is out of range")
    minor = 1 if event.http_version == b"1.1" else 0
    return ResponseHead(event.status_code, event.reason, minor, *_fields(event.headers, is_special_in_responses))
