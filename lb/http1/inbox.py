"""The bytes of a client connection that no exchange has taken yet: part of a head, or pipelined requests."""

from __future__ import annotations

from lb.http1.forwarding import Request
from lb.http1.head import find_head_end
from lb.http1.message import MessageError
from lb.http1.readers import RequestReader

_MAX_EMPTY_LINES = 2


class Inbox:
    """Collects bytes and takes one request head after the other out of them."""

    __slots__ = ("_reader", "_scanned", "data", "empty_lines")

    def __init__(self, reader: RequestReader) -> None:
        self._reader = reader
        self._scanned = 0
        self.empty_lines = 0
        """How many came since the last request."""
        self.data = b""
        """What was not taken yet."""

    def first_request(self, data: bytes, body_limit: int) -> Request | None:
        """Take the head at the front of `data`, with nothing before it: the usual case, without detours.

        Returns None, and takes nothing, if it is not complete or begins in an unusual way. Otherwise as `next_request`.
        """
        end = data.find(b"\r\n\r\n") + 4
        if end < 5 or end > self._reader.limits.head_bytes or data[0] == 13:
            return None
        if end == len(data):
            request = self._reader.read(data)
        else:
            request = self._reader.read(data[:end])
            self.data = data[end:]
        if body_limit and request.framing.length > body_limit:
            raise body_too_large(body_limit)
        return request

    def next_request(self, body_limit: int) -> Request | None:
        """Take the head at the front, or return None if it is not complete yet.

        `body_limit` is the largest Content-Length in bytes that is accepted, 0 for any. Raises MessageError.
        """
        data = self.data
        while data.startswith(b"\r\n"):
            # RFC 9112, section 2.2: an empty line before a request is ignored; we allow two.
            self.empty_lines += 1
            if self.empty_lines > _MAX_EMPTY_LINES:
                raise MessageError(400, "empty_lines", "too many empty lines before the request")
            data = self.data = data[2:]
            self._scanned = 0
        end = find_head_end(data, self._scanned, self._reader.limits)
        if end < 0:
            self._scanned = len(data)
            return None
        request = self._reader.read(data[:end])
        if body_limit and request.framing.length > body_limit:
            raise body_too_large(body_limit)
        self.data = data[end:]
        self._scanned = self.empty_lines = 0
        return request

    def take_all(self) -> bytes:
        """Take everything: the body of the request that was taken begins with it."""
        data, self.data = self.data, b""
        return data


def body_too_large(limit: int) -> MessageError:
    """Return the error for a body of over `limit` bytes."""
    return MessageError(413, "body_too_large", f"the request's body is over {limit} bytes")
