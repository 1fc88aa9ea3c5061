"""The normalised heads that everything above the parsers reads, and the one error for bad input.

A head keeps its field lines in the order and the case in which they came (RFC 9110, section 5.3: the order of fields
with the same name matters). A line is the field written anew from its parsed name and value: what we send is built
from what we read, so the next reader cannot see another message in it. Fields that framing or forwarding must look at
are parsed further, into `special`; the others are only passed on, and stay lines.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# RFC 9110, section 5.6.2: token.
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"

# RFC 9112, section 5: field-line = field-name ":" OWS field-value OWS. No space before the colon.
_FIELD_LINE = re.compile(rb"(" + TOKEN + rb"):[ \t]*((?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?)[ \t]*")

# What must be looked at. A received `Via`, for one, need not be: it is passed on as it is.
_SPECIAL_IN_REQUESTS = frozenset(
    b"host content-length transfer-encoding connection keep-alive proxy-connection te upgrade http2-settings "
    b"expect max-forwards forwarded x-real-ip x-request-id".split()
)
_SPECIAL_IN_RESPONSES = frozenset(
    b"content-length transfer-encoding connection keep-alive proxy-connection te upgrade date".split()
)


class MessageError(Exception):
    """What a peer sent is not acceptable HTTP/1.1.

    `status` is what a client is told (a bad response is always told as 502), `what` a short word for logs and
    metrics (`bad_request:<what>`), `detail` the sentence for the person who has to mend it.
    """

    def __init__(self, status: int, what: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.what = what
        self.detail = detail


class Field(NamedTuple):
    """A field that is looked at."""

    key: bytes
    """The name in lower case."""
    value: bytes
    line: bytes
    """`name: value`, as it is sent, without the CRLF."""


class RequestHead:
    """A parsed request head."""

    __slots__ = ("lines", "method", "minor", "special", "target")

    def __init__(self, method: bytes, target: bytes, minor: int, lines: list[bytes], special: list[Field]) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        """The minor version: 1 for HTTP/1.1, 0 for HTTP/1.0."""
        self.lines = lines
        """All field lines in order, the special ones too."""
        self.special = special

    def __repr__(self) -> str:
        return f"RequestHead({self.method!r}, {self.target!r}, HTTP/1.{self.minor}, {len(self.lines)} fields)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RequestHead):
            return NotImplemented
        mine = (self.method, self.target, self.minor, self.lines, self.special)
        return mine == (other.method, other.target, other.minor, other.lines, other.special)

    __hash__ = None  # type: ignore[assignment]

    def values(self, key: bytes) -> list[bytes]:
        """Return the values of all fields called `key` (in lower case), in order."""
        return values_of(self.lines, key)


class ResponseHead:
    """A parsed response head."""

    __slots__ = ("lines", "minor", "reason", "special", "status")

    def __init__(self, status: int, reason: bytes, minor: int, lines: list[bytes], special: list[Field]) -> None:
        self.status = status
        self.reason = reason
        self.minor = minor
        self.lines = lines
        """All field lines in order, the special ones too."""
        self.special = special

    def __repr__(self) -> str:
        return f"ResponseHead({self.status}, {self.reason!r}, HTTP/1.{self.minor}, {len(self.lines)} fields)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ResponseHead):
            return NotImplemented
        mine = (self.status, self.reason, self.minor, self.lines, self.special)
        return mine == (other.status, other.reason, other.minor, other.lines, other.special)

    __hash__ = None  # type: ignore[assignment]

    def values(self, key: bytes) -> list[bytes]:
        """Return the values of all fields called `key` (in lower case), in order."""
        return values_of(self.lines, key)


def is_special_in_requests(key: bytes) -> bool:
    """Must a request field of this name (in lower case) be looked at before it may be passed on?"""
    # CGI and WSGI read "_" and "-" in a name as the same character: X_Forwarded_For would reach an application as
    # X-Forwarded-For, and Content_Length as a second length.
    dashed = key.replace(b"_", b"-")
    return dashed in _SPECIAL_IN_REQUESTS or dashed.startswith(b"x-forwarded-")


def is_special_in_responses(key: bytes) -> bool:
    """Must a response field of this name (in lower case) be looked at before it may be passed on?"""
    return key in _SPECIAL_IN_RESPONSES


def field_line(name: bytes, value: bytes) -> bytes:
    """Return the line of a field, as it is sent, without the CRLF."""
    return b"%b: %b" % (name, value)


def values_of(lines: list[bytes], key: bytes) -> list[bytes]:
    """Return the values of all fields called `key` (in lower case) among field lines, without white space around."""
    values = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon and name.lower() == key:
            values.append(value.strip(b" \t"))
    return values


def split_field_line(line: bytes) -> tuple[bytes, bytes]:
    """Return name and value of a received field line without its CRLF.

    Raises MessageError for anything that RFC 9112, section 5 does not allow.
    """
    match = _FIELD_LINE.fullmatch(line)
    if match is None:
        raise MessageError(400, "field_line", "a field line is malformed")
    return match[1], match[2]


def coding_error(values: list[bytes]) -> MessageError:
    """Return the error for a request whose Transfer-Encoding fields are not exactly one `chunked`.

    RFC 9112, section 6.3: where chunked is not the last coding, nobody can tell where the body ends: 400. Section 6.1:
    a coding before it that is not understood is 501.
    """
    members = list_members(b",".join(values))
    is_last = bool(members) and members[-1] == b"chunked" and members.count(b"chunked") == 1
    status = 501 if is_last and len(members) > 1 and len(values) == 1 else 400
    return MessageError(status, "transfer_encoding", "Transfer-Encoding is not exactly one chunked")


def list_members(value: bytes) -> list[bytes]:
    """Return the members of a comma-separated list in lower case, without empty ones (RFC 9110, section 5.6.1)."""
    return [member for part in value.lower().split(b",") if (member := part.strip(b" \t"))]
