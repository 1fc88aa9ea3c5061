"""How long a body is (RFC 9112, section 6), and taking it out of the stream.

`request_framing` and `response_framing` read the normalised head alone. A decoder takes what was read and gives
`(bytes of this body, done)`; what stands behind the end of the body is left in `excess`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from lb.http1.message import (
    TOKEN,
    MessageError,
    RequestHead,
    ResponseHead,
    coding_error,
    field_line,
    is_special_in_requests,
    split_field_line,
)

NO_BODY, LENGTH, CHUNKED, UNTIL_CLOSE = range(4)

_NOTHING: frozenset[bytes] = frozenset()
_DIGITS = re.compile(rb"[0-9]{1,18}")

# RFC 9112, section 7.1: chunk-size [ chunk-ext ] CRLF. 16 hexadecimal digits are 2^64: nobody sends more in one chunk.
# Section 7.1.1: chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
_EXTENSION = (
    rb"[ \t]*;[ \t]*"
    + TOKEN
    + rb"(?:[ \t]*=[ \t]*(?:"
    + TOKEN
    + rb'|"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"))?'
)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:" + _EXTENSION + rb")*\r\n")
# What may become one when more of it comes.
_LIKE_A_CHUNK_LINE = re.compile(rb"[0-9A-Fa-f]{1,16}(?:[ \t]*;[\t -~\x80-\xff]*|[ \t]*)(?:\r\Z)?")
_CHUNK_LINE_LIMIT = 1024
_EXTENSIONS_LIMIT = 16384
_TRAILERS_LIMIT = 16384
_TRAILER_FIELDS_LIMIT = 64

# RFC 9110, section 6.5.1: fields that framing, routing or forwarding would have needed in the head, and our own.
_FORBIDDEN_TRAILERS = frozenset(
    b"transfer-encoding content-length host trailer te connection keep-alive proxy-connection upgrade expect "
    b"content-encoding content-type content-range cache-control max-forwards authorization proxy-authorization "
    b"set-cookie cookie via forwarded".split()
)


@dataclass(slots=True)
class Framing:
    """How the end of a body is known: `kind`, and its `length` in bytes for LENGTH (else 0). A value: never changed."""

    kind: int
    length: int = 0


_NO_BODY = Framing(NO_BODY)
_CHUNKED = Framing(CHUNKED)
_UNTIL_CLOSE = Framing(UNTIL_CLOSE)


def request_framing(head: RequestHead) -> Framing:
    """Return how the body of a request is framed (RFC 9112, section 6.3).

    Raises MessageError wherever two readers could disagree about the end of the message.
    """
    length: bytes | None = None
    chunked = False
    for key, value, _ in head.special:
        if key == b"content-length":
            if length is not None:
                raise MessageError(400, "content_length", "Content-Length is repeated")
            length = value
            if _DIGITS.fullmatch(length) is None:
                raise MessageError(400, "content_length", "Content-Length is not a plain decimal number")
        elif key == b"transfer-encoding":
            if chunked or value.lower() != b"chunked":
                raise coding_error(head.values(key))
            if head.minor == 0:
                raise MessageError(400, "transfer_encoding", "Transfer-Encoding is not allowed in HTTP/1.0")
            chunked = True
    if chunked:
        if length is not None:
            raise MessageError(400, "content_length_and_transfer_encoding", "both Content-Length and Transfer-Encoding")
        return _CHUNKED
    return _NO_BODY if length is None else Framing(LENGTH, int(length))


def response_framing(head: ResponseHead) -> tuple[Framing, bool]:
    """Return how the body of a response to anything but HEAD is framed, and whether the framing can be trusted.

    A response with both Content-Length and Transfer-Encoding is read by the latter, but nothing may follow it on its
    connection (RFC 9112, section 6.3). Raises MessageError(502).
    """
    lengths: set[bytes] = set()
    chunked = False
    for key, value, _ in head.special:
        if key == b"content-length":
            lengths.add(value)
        elif key == b"transfer-encoding":
            if chunked or value.lower() != b"chunked":
                raise MessageError(502, "transfer_encoding", "Transfer-Encoding is not exactly one chunked")
            if head.minor == 0:
                raise MessageError(502, "transfer_encoding", "Transfer-Encoding in an HTTP/1.0 response")
            chunked = True
    if head.status < 200 or head.status == 204 or head.status == 304:
        return _NO_BODY, not (chunked and lengths)
    if chunked:
        return _CHUNKED, not lengths
    if not lengths:
        return _UNTIL_CLOSE, False
    if len(lengths) > 1 or _DIGITS.fullmatch(length := lengths.pop()) is None:
        raise MessageError(502, "content_length", "Content-Length is repeated or malformed")
    return Framing(LENGTH, int(length)), True


class BodyDecoder(Protocol):
    """Takes one body out of a stream of bytes."""

    excess: bytes
    """What was fed and stands behind the end of the body."""
    trailers: list[bytes]
    """The lines of the trailer fields that may be passed on, without CRLF."""
    remaining: int
    """How many bytes are still to come, as far as that is known; else 0."""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return the bytes of this body in `data`, and whether it ends with them. Raises MessageError."""


class LengthBody:
    """A body of a known length."""

    __slots__ = ("excess", "remaining")
    trailers: list[bytes] = []  # noqa: RUF012 - there never are any

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.excess = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return the bytes of this body in `data`, and whether it ends with them."""
        size = len(data)
        if size < self.remaining:
            self.remaining -= size
            return data, False
        if size > self.remaining:
            self.excess = data[self.remaining :]
            data = data[: self.remaining]
        self.remaining = 0
        return data, True

    def passed(self, count: int) -> bool:
        """`count` bytes of it went their way without being fed. Does it end with them?"""
        self.remaining -= count
        return not self.remaining


class CloseBody:
    """A body that ends when its connection is closed in order."""

    __slots__ = ("excess",)
    trailers: list[bytes] = []  # noqa: RUF012 - there never are any
    remaining = 0

    def __init__(self) -> None:
        self.excess = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return all of `data`: only the end of the connection ends this body."""
        return data, False


_SIZE, _DATA, _DATA_END, _TRAILERS = range(4)


class ChunkedBody:
    """A body in the chunked coding (RFC 9112, section 7.1), read strictly.

    Only CRLF ends a line, sizes are hexadecimal digits alone, extensions are bounded and dropped, trailers are bounded
    and those that must not stand there are dropped.
    """

    __slots__ = ("_dropped", "_extensions", "_partial", "_remaining", "_state", "_status", "excess", "trailers")
    remaining = 0

    def __init__(self, *, status: int, dropped: frozenset[bytes] = _NOTHING) -> None:
        """`status` is what MessageError carries: 400 for a request's body, 502 for a response's.

        `dropped` are further fields that may not be passed on as trailers: what Connection names (RFC 9110, section
        7.6.1), in lower case.
        """
        self._status = status
        self._dropped = dropped
        self._state = _SIZE
        self._remaining = 0
        self._partial = b""
        self._extensions = 0
        self.excess = b""
        self.trailers: list[bytes] = []

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return the payload in `data` without its framing, and whether the body ends with it. Raises MessageError."""
        if self._partial:
            data = self._partial + data
            self._partial = b""
        payload: list[bytes] = []
        at = 0
        size = len(data)
        while True:
            if self._state == _DATA:
                piece = data[at : at + self._remaining]
                if piece:
                    payload.append(piece)
                    at += len(piece)
                    self._remaining -= len(piece)
                if self._remaining:
                    break
                self._state = _DATA_END
            if self._state == _DATA_END:
                end = data[at : at + 2]
                if end != b"\r\n":
                    if len(end) == 2 or end == b"\n" or (end and end != b"\r"):
                        raise self._error("chunk", "a chunk is longer than its size says")
                    self._partial = end
                    break
                at += 2
                self._state = _SIZE
            if self._state == _SIZE:
                line = _CHUNK_LINE.match(data, at)
                if line is None:
                    self._keep_partial_line(data[at:])
                    break
                at = line.end()
                self._count_extension(line)
                self._remaining = int(line[1], 16)
                self._state = _DATA if self._remaining else _TRAILERS
            if self._state == _TRAILERS:
                end_at = self._trailers_end(data, at)
                if end_at < 0:
                    self._partial = data[at:]
                    break
                self.excess = data[end_at:] if end_at < size else b""
                return b"".join(payload), True
        return (payload[0] if len(payload) == 1 else b"".join(payload)), False

    def _error(self, what: str, detail: str) -> MessageError:
        return MessageError(self._status, what, detail)

    def _count_extension(self, line: re.Match[bytes]) -> None:
        self._extensions += line.end() - line.start() - len(line[1]) - 2
        if len(line[0]) > _CHUNK_LINE_LIMIT or self._extensions > _EXTENSIONS_LIMIT:
            raise self._error("chunk_extension", "the chunk extensions are too large")

    def _keep_partial_line(self, rest: bytes) -> None:
        """Keep the beginning of a size line, unless it can't become one any more."""
        if len(rest) > _CHUNK_LINE_LIMIT:
            raise self._error("chunk_extension", "a chunk's size line is too long")
        if rest and _LIKE_A_CHUNK_LINE.fullmatch(rest) is None:
            raise self._error("chunk_size", "a chunk's size line is malformed")
        self._partial = rest

    def _trailers_end(self, data: bytes, at: int) -> int:
        if data.startswith(b"\r\n", at):
            return at + 2
        end = data.find(b"\r\n\r\n", at)
        # While the end is not here, up to three bytes of it may be.
        if (end if end >= 0 else len(data) - 3) - at > _TRAILERS_LIMIT:
            raise self._error("trailers", "the trailer section is too large")
        if end < 0:
            return -1
        lines = data[at:end].split(b"\r\n")
        if len(lines) > _TRAILER_FIELDS_LIMIT:
            raise self._error("trailers", "the trailer section has too many fields")
        for line in lines:
            try:
                name, value = split_field_line(line)
            except MessageError:
                raise self._error("trailers", "a trailer field is malformed") from None
            key = name.lower()
            if key not in _FORBIDDEN_TRAILERS and key not in self._dropped and not is_special_in_requests(key):
                self.trailers.append(field_line(name, value))
        return end + 4


def body_decoder(framing: Framing, *, status: int, dropped: frozenset[bytes] = _NOTHING) -> BodyDecoder:
    """Return the decoder for a body; `status` and `dropped` are what `ChunkedBody` is given."""
    if framing.kind == LENGTH:
        return LengthBody(framing.length)
    if framing.kind == CHUNKED:
        return ChunkedBody(status=status, dropped=dropped)
    return CloseBody()


def encode_chunk(payload: bytes | memoryview) -> bytes:
    """Return `payload` as one chunk. An empty payload gives nothing: an empty chunk would end the body."""
    return b"".join((b"%x\r\n" % len(payload), payload, b"\r\n")) if payload else b""


def encode_last_chunk(trailers: list[bytes]) -> bytes:
    """Return the end of a chunked body, with its trailer section."""
    return b"0\r\n%b\r\n" % b"".join([line + b"\r\n" for line in trailers])
