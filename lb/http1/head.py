"""Bytes → RequestHead or ResponseHead. The only module of lb that imports h11.

Two readers. h11 is the authority and costs 17 µs for a 40-byte head, 37 µs for a browser's. In front of it stands a
recogniser that costs about a tenth of that: it may only *accept*, and only in a canonical subset in which it reads
what h11 reads (tests/fuzz compares the two); whatever else it sees it hands on. `recogniser=False` reads all with h11.

h11 accepts more than a proxy may (bare LF, folded lines, control bytes; it folds repeated Content-Lengths into one), so
the rules on raw bytes are checked here before h11 sees them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import h11

from lb.http1.message import (
    TOKEN,
    Field,
    MessageError,
    RequestHead,
    ResponseHead,
    request_field,
    response_field,
)

_CRLF = b"\r\n"

_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.([01])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2}) ([!-~](?:[ !-~]*[!-~])?)")
_PLAIN_FIELD = re.compile(rb"(" + TOKEN + rb"): ([!-~](?:[ !-~]*[!-~])?)")
_LENGTH = re.compile(rb"[0-9]{1,18}")

_BARE_LINE_END = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_BARE_LINE_END_SO_FAR = re.compile(rb"\r(?!\n|\Z)|(?<!\r)\n")
_FOLDED = re.compile(rb"\r\n[ \t]")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_VERSION = re.compile(rb"HTTP/([0-9]\.[0-9])")
_FIELD_NAME = re.compile(TOKEN)

_CACHED_LINES = 2048
_CACHED_LINE_BYTES = 256


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
    end = data.find(b"\r\n\r\n", max(scanned - 3, 0)) + 4
    if end < 4:
        if len(data) > limits.target_bytes + 32 and _CRLF not in data:
            raise MessageError(414, "target_too_long", f"the request target is over {limits.target_bytes} bytes")
        if _BARE_LINE_END_SO_FAR.search(data, max(scanned - 1, 0)):
            raise MessageError(400, "bare_line_end", "a line ends with a bare CR or LF")
        end = -1
    if max(end, len(data) if end < 0 else 0) > limits.head_bytes:
        raise MessageError(431, "head_too_large", f"the head is over {limits.head_bytes} bytes")
    return end


class HeadParser:
    """Reads complete heads.

    One instance serves all connections: the recogniser remembers field lines that it has seen, since clients send the
    same ones again and again (a bounded number of bounded lines).
    """

    def __init__(self, limits: HeadLimits, *, recogniser: bool = True) -> None:
        self.limits = limits
        self._recogniser = recogniser
        self._request_lines: dict[bytes, Field] = {}
        self._response_lines: dict[bytes, Field] = {}

    def request(self, raw: bytes) -> RequestHead:
        """Read a request head, complete with the empty line that ends it.

        Raises MessageError with the status for the client (RFC 9112, sections 2 to 6).
        """
        self._check_count(raw)
        head = self._recognise_request(raw) if self._recogniser else None
        if head is None:
            head = _read_request(raw)
        if len(head.target) > self.limits.target_bytes:
            raise MessageError(414, "target_too_long", f"the request target is over {self.limits.target_bytes} bytes")
        return head

    def response(self, raw: bytes) -> ResponseHead:
        """Read a response head, complete with the empty line that ends it. Raises MessageError."""
        self._check_count(raw)
        head = self._recognise_response(raw) if self._recogniser else None
        return _read_response(raw) if head is None else head

    def _check_count(self, raw: bytes) -> None:
        if raw.count(_CRLF) - 2 > self.limits.fields:
            raise MessageError(431, "too_many_fields", f"the head has over {self.limits.fields} fields")

    def _recognise_request(self, raw: bytes) -> RequestHead | None:
        lines = raw[:-4].split(_CRLF)
        start = _REQUEST_LINE.fullmatch(lines[0])
        if start is None:
            return None
        fields = _recognise_fields(lines, self._request_lines, request_field)
        if fields is None or not _is_plainly_framed(fields):
            return None
        return RequestHead(start[1], start[2], 1 if start[3] == b"1" else 0, fields)

    def _recognise_response(self, raw: bytes) -> ResponseHead | None:
        lines = raw[:-4].split(_CRLF)
        start = _STATUS_LINE.fullmatch(lines[0])
        if start is None:
            return None
        fields = _recognise_fields(lines, self._response_lines, response_field)
        if fields is None or not _is_plainly_framed(fields):
            return None
        return ResponseHead(int(start[2]), start[3], 1 if start[1] == b"1" else 0, fields)


def _recognise_fields(
    lines: list[bytes], seen: dict[bytes, Field], make_field: Callable[[bytes, bytes], Field]
) -> list[Field] | None:
    fields = []
    for line in lines[1:]:
        field = seen.get(line)
        if field is None:
            match = _PLAIN_FIELD.fullmatch(line)
            if match is None:
                return None
            field = make_field(match[1], match[2])
            if len(line) <= _CACHED_LINE_BYTES:
                if len(seen) >= _CACHED_LINES:
                    seen.clear()
                seen[line] = field
        fields.append(field)
    return fields


def _is_plainly_framed(fields: list[Field]) -> bool:
    """Is there at most one length or one `chunked`, in its plain form? Everything else is for h11 and the raw rules."""
    framed = False
    for field in fields:
        if field.special:
            key = field.key
            if key == b"content-length":
                if framed or _LENGTH.fullmatch(field.value) is None:
                    return False
                framed = True
            elif key == b"transfer-encoding":
                if framed or field.value != b"chunked":
                    return False
                framed = True
    return True


def _check_raw(raw: bytes) -> list[bytes]:
    """Check the rules on raw bytes that h11 does not have; return the lines of the head."""
    if _BARE_LINE_END.search(raw):
        raise MessageError(400, "bare_line_end", "a line ends with a bare CR or LF")
    if _FOLDED.search(raw):
        raise MessageError(400, "folded_line", "a field is folded over more than one line")
    if _CONTROL.search(raw):
        raise MessageError(400, "control_character", "the head contains a control character")
    return raw[:-4].split(_CRLF)


def _named(lines: list[bytes], name: bytes) -> list[bytes]:
    """Return the values of all fields called `name`, as they stand on the wire."""
    values = []
    for line in lines[1:]:
        found, colon, value = line.partition(b":")
        if colon and found.lower() == name:
            values.append(value.strip(b" \t"))
    return values


def _read_request(raw: bytes) -> RequestHead:
    lines = _check_raw(raw)
    parts = lines[0].split(b" ")
    if len(parts) == 3 and (version := _VERSION.fullmatch(parts[2])) and version[1] not in (b"1.0", b"1.1"):
        raise MessageError(505, "version", "this server speaks HTTP/1.1 and HTTP/1.0")
    lengths = _named(lines, b"content-length")
    if len(lengths) > 1:
        raise MessageError(400, "content_length", "Content-Length is repeated")
    if lengths and _LENGTH.fullmatch(lengths[0]) is None:
        raise MessageError(400, "content_length", "Content-Length is not a plain decimal number of at most 18 digits")
    codings = _named(lines, b"transfer-encoding")
    if len(codings) > 1:
        raise MessageError(400, "transfer_encoding", "Transfer-Encoding is repeated")
    if lengths and codings:
        raise MessageError(400, "content_length_and_transfer_encoding", "both Content-Length and Transfer-Encoding")

    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(raw) + 1)
    connection.receive_data(raw)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        status = 501 if error.error_status_hint == 501 else 400
        raise MessageError(status, *_explain(lines, error)) from None
    if not isinstance(event, h11.Request):
        raise MessageError(400, "malformed", "this is not an HTTP/1.1 request")
    fields = [request_field(name, value) for name, value in event.headers.raw_items()]
    return RequestHead(event.method, event.target, 1 if event.http_version == b"1.1" else 0, fields)


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
    if "Host" in text:
        return "host", "Host is missing or repeated"
    return "malformed", "the head is malformed"


# h11 reads a response only behind a request.
_ASKED = h11.Request(method="GET", target="/", headers=[("Host", "h")])


def _read_response(raw: bytes) -> ResponseHead:
    lines = _check_raw(raw)
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=len(raw) + 1)
    connection.send(_ASKED)
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
    fields = [response_field(name, value) for name, value in event.headers.raw_items()]
    return ResponseHead(event.status_code, event.reason, 1 if event.http_version == b"1.1" else 0, fields)
