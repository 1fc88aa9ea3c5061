"""The normalised heads that everything above the parsers reads, and the one error for bad input.

A field keeps the case of its name and its place in the order (RFC 9110, section 5.3: the order of fields with
the same name matters). `line` is the field written anew from its parsed name and value: what we send is built from what
we read, so the next reader cannot see another message in it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# RFC 9110, section 5.6.2: token.
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"

# RFC 9112, section 5: field-line = field-name ":" OWS field-value OWS. No space before the colon.
_FIELD_LINE = re.compile(rb"(" + TOKEN + rb"):[ \t]*((?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?)[ \t]*")

# Fields that framing or forwarding must look at; all others are copied unread. A received `Via` is not among
# them: ours is added behind it.
_REQUEST_FIELDS = frozenset(
    b"host content-length transfer-encoding connection keep-alive proxy-connection te upgrade http2-settings expect "
    b"forwarded x-real-ip x-request-id".split()
)
_RESPONSE_FIELDS = frozenset(
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
    """One field of a head or trailer section."""

    name: bytes
    """As received."""
    value: bytes
    key: bytes
    """The name in lower case."""
    line: bytes
    """`name: value CRLF`, as it is sent."""
    special: bool
    """Framing or forwarding must look at it before it may be passed on."""


class RequestHead:
    """A parsed request head."""

    __slots__ = ("fields", "method", "minor", "target")

    def __init__(self, method: bytes, target: bytes, minor: int, fields: list[Field]) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        """The minor version: 1 for HTTP/1.1, 0 for HTTP/1.0."""
        self.fields = fields

    def __repr__(self) -> str:
        return f"RequestHead({self.method!r}, {self.target!r}, HTTP/1.{self.minor}, {len(self.fields)} fields)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RequestHead):
            return NotImplemented
        mine = (self.method, self.target, self.minor, self.fields)
        return mine == (other.method, other.target, other.minor, other.fields)

    __hash__ = None  # type: ignore[assignment]


class ResponseHead:
    """A parsed response head."""

    __slots__ = ("fields", "minor", "reason", "status")

    def __init__(self, status: int, reason: bytes, minor: int, fields: list[Field]) -> None:
        self.status = status
        self.reason = reason
        self.minor = minor
        self.fields = fields

    def __repr__(self) -> str:
        return f"ResponseHead({self.status}, {self.reason!r}, HTTP/1.{self.minor}, {len(self.fields)} fields)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ResponseHead):
            return NotImplemented
        mine = (self.status, self.reason, self.minor, self.fields)
        return mine == (other.status, other.reason, other.minor, other.fields)

    __hash__ = None  # type: ignore[assignment]


def request_field(name: bytes, value: bytes) -> Field:
    """Return the request field `name: value`."""
    key = name.lower()
    # CGI and WSGI read "_" and "-" in a name as the same character: X_Forwarded_For would reach an application
    # as X-Forwarded-For.
    dashed = key.replace(b"_", b"-")
    special = key in _REQUEST_FIELDS or dashed.startswith(b"x-forwarded-") or dashed in (b"x-real-ip", b"x-request-id")
    return Field(name, value, key, b"%b: %b\r\n" % (name, value), special)


def response_field(name: bytes, value: bytes) -> Field:
    """Return the response field `name: value`."""
    key = name.lower()
    return Field(name, value, key, b"%b: %b\r\n" % (name, value), key in _RESPONSE_FIELDS)


def split_field_line(line: bytes) -> tuple[bytes, bytes]:
    """Return name and value of a field line without its CRLF.

    Raises MessageError for anything that RFC 9112, section 5 does not allow.
    """
    match = _FIELD_LINE.fullmatch(line)
    if match is None:
        raise MessageError(400, "field_line", "a field line is malformed")
    return match[1], match[2]


def list_members(value: bytes) -> list[bytes]:
    """Return the members of a comma-separated list, in lower case, without the empty ones (RFC 9110, section 5.6.1)."""
    return [member for part in value.lower().split(b",") if (member := part.strip(b" \t"))]
