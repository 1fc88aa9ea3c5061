"""What podlb accepts and another reader is known to refuse: each difference with its reason and an example.

None of them is about where a message ends: a reader that refuses closes the connection.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_POST = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
_OK = b"HTTP/1.1 200 OK\r\n"

# A field of framing in a trailer section, which begins behind the last chunk.
_FRAMING_TRAILER = re.compile(
    rb"(?i)\n0+(?:[ \t]*;[^\n]*)?\r\n(?:[^\r\n]+\r\n)*(?:content-length|transfer-encoding|connection|upgrade):"
)


def has_framing_trailer(raw: bytes) -> bool:
    """Is there a field in the trailer section of `raw` that says something about framing or the connection?"""
    return _FRAMING_TRAILER.search(raw) is not None


class Known(NamedTuple):
    """One difference."""

    reason: str
    reader: str
    """"h11" or "httptools"."""
    said: str
    """How its refusal begins."""
    where: re.Pattern[bytes]
    """What it is about: found in the message."""
    example: bytes
    """A message that podlb accepts and the reader refuses so."""


_SPACED_EXTENSION = re.compile(rb"\n[0-9A-Fa-f]+(?:[ \t]*;[^\n]*)?(?:[ \t]+;|;[ \t]|[ \t]=|=[ \t])[^\n]*\r\n")

KNOWN = (
    Known(
        "RFC 9112, section 7.1.1: white space around the parts of a chunk extension is bad, but must be read",
        "h11",
        "illegal chunk header",
        re.compile(rb"\n[0-9A-Fa-f]+[ \t]+;[^\n]*\r\n"),
        _POST + b"1 ;a\r\nx\r\n0\r\n\r\n",
    ),
    Known(
        "the same",
        "httptools",
        "HttpParserError: Invalid character in chunk",
        _SPACED_EXTENSION,
        _POST + b"1; a = b\r\nx\r\n0\r\n\r\n",
    ),
    Known(
        "RFC 9110, section 9.1: there may be other methods than those it lists",
        "httptools",
        "HttpParserInvalidMethodError",
        re.compile(rb"^(?!(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|PROPFIND|M-SEARCH|SOURCE) )"),
        b"GETS / HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    Known(
        "PRI begins the preface of HTTP/2; before HTTP/1.1 it is a method like others",
        "httptools",
        "HttpParserError: Expected HTTP/2 Connection Preface",
        re.compile(rb"^PRI "),
        b"PRI / HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    Known(
        "the same, where no field follows",
        "httptools",
        "it is not complete",
        re.compile(rb"^PRI "),
        b"PRI / HTTP/1.0\r\n\r\n",
    ),
    Known(
        "RFC 9110, section 5.5: a tab behind a value is no part of it; it takes it for a part of the coding",
        "httptools",
        "it is not complete",
        re.compile(rb"(?i)^HTTP[^\0]*\ntransfer-encoding:[ \t]*chunked *\t[ \t]*\r\n"),
        _OK + b"Transfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n",
    ),
    Known(
        "the same in a request",
        "httptools",
        "HttpParserError: Request has invalid `Transfer-Encoding`",
        re.compile(rb"(?i)^(?!HTTP)[^\0]*\ntransfer-encoding:[ \t]*chunked *\t[ \t]*\r\n"),
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n",
    ),
    Known(
        "it ends its work at any Upgrade; we drop those that are not allowed",
        "httptools",
        "upgrade",
        re.compile(rb"(?is)^(?=.*\nupgrade:).*\nconnection:"),
        b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    ),
    Known(
        "RFC 9110, section 6.5.1: fields of framing mean nothing in trailers, and are dropped; it reads them",
        "h11",
        "multiple Transfer-Encoding",
        _FRAMING_TRAILER,
        _POST + b"0\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    Known(
        "the same",
        "h11",
        "Only Transfer-Encoding: chunked",
        _FRAMING_TRAILER,
        _POST + b"0\r\nTransfer-Encoding: gzip\r\n\r\n",
    ),
    Known(
        "the same",
        "h11",
        "bad Content-Length",
        _FRAMING_TRAILER,
        _POST + b"0\r\nContent-Length: a\r\n\r\n",
    ),
    Known(
        "the same",
        "h11",
        "conflicting Content-Length",
        _FRAMING_TRAILER,
        _POST + b"0\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ),
    Known(
        "the same",
        "httptools",
        "HttpParserError: Content-Length can't be present with Transfer-Encoding",
        _FRAMING_TRAILER,
        _POST + b"0\r\nContent-Length: 5\r\n\r\n",
    ),
    Known(
        "the same",
        "httptools",
        "HttpParserError: Invalid `Transfer-Encoding` header value",
        _FRAMING_TRAILER,
        _POST + b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    Known(
        "RFC 9110, section 8.6: a response may say its length as a list of equal ones; one is passed on",
        "httptools",
        "HttpParserError: Invalid character in Content-Length",
        re.compile(rb"(?i)^HTTP[^\0]*\ncontent-length:[^\n]*,"),
        _OK + b"Content-Length: 2, 2\r\n\r\nok",
    ),
    Known(
        "RFC 9112, section 6.3, rule 1: no 1xx has a body; it knows that of those that it knows",
        "httptools",
        "it is not complete",
        re.compile(rb"^HTTP/1\.[01] 1(?!0[0-3])"),
        b"HTTP/1.1 199 Wait\r\nContent-Length: 5\r\n\r\n",
    ),
    Known(
        "RFC 9112, section 6.3, rule 5: a response that says the same length twice has that length",
        "httptools",
        "HttpParserError: Duplicate Content-Length",
        re.compile(rb"(?is)^HTTP.*\ncontent-length:.*\ncontent-length:"),
        _OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    ),
    Known(
        "RFC 9112, section 6.3, rule 3: in a response with both the coding wins; its connection is closed then",
        "httptools",
        "HttpParserError: Content-Length can't be present with Transfer-Encoding",
        re.compile(rb"(?is)^HTTP.*\ntransfer-encoding:.*\ncontent-length:"),
        _OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    Known(
        "the same, the other way round",
        "httptools",
        "HttpParserError: Transfer-Encoding can't be present with Content-Length",
        re.compile(rb"(?is)^HTTP.*\ncontent-length:.*\ntransfer-encoding:"),
        _OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
)


def is_known(reader: str, raw: bytes, refusal: str) -> bool:
    """Is it known that `reader` refuses `raw` so?"""
    return any(reader == one.reader and refusal.startswith(one.said) and one.where.search(raw) for one in KNOWN)
