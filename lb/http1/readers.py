"""Heads as bytes → what is forwarded for them, remembering what the last ones came to.

A byte-identical head that was prepared before (keep-alive clients, probes, the responses of one second) is answered
from a small bounded cache, but not where h11 is to read every head.
"""

from __future__ import annotations

from array import array
from collections.abc import MutableSequence
from typing import Generic, TypeVar

from lb.http1.forwarding import PLAIN_RULES, ForwardingRules, Request, prepare_request
from lb.http1.head import HeadParser
from lb.http1.message import MessageError
from lb.http1.responses import Response, prepare_response

_CACHED_HEADS = 512
# Larger heads, a browser's, hardly ever come twice, and hashing one to find that out costs a tenth of reading it.
CACHED_HEAD_BYTES = 512
_SEEN_SLOTS = 1024

H = TypeVar("H")


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
    """Reads and prepares request heads, remembering those that come again and again.

    `get` is the cache of those without a body: bytes that are one whole request → Request or None.
    """

    def __init__(
        self,
        parser: HeadParser,
        rules: ForwardingRules = PLAIN_RULES,
        counters: MutableSequence[int] | None = None,
        at: int = 0,
    ) -> None:
        """`counters[at]` is one more for each head that had to be read, as it was not remembered."""
        self.parser = parser
        self._rules = rules
        self._counters = [0] if counters is None else counters
        self._at = at
        self.limits = parser.limits
        self._cache: _HeadCache[Request] = _HeadCache(enabled=parser.has_recogniser)
        self._with_body: _HeadCache[Request] = _HeadCache(enabled=parser.has_recogniser)
        self.get = self._cache.get

    def read(self, raw: bytes) -> Request:
        """Return the request whose head is `raw`. Raises MessageError."""
        if len(raw) <= CACHED_HEAD_BYTES:
            known = self._cache.get(raw) or self._with_body.get(raw)
            if known is not None:
                return known
        self._counters[self._at] += 1
        request = prepare_request(self.parser.request(raw), self._rules)
        request.size = len(raw)
        (self._with_body if request.has_body else self._cache).offer(raw, request)
        return request


class ResponseReader:
    """Reads and prepares response heads, remembering those that come again and again."""

    def __init__(
        self,
        parser: HeadParser,
        rules: ForwardingRules = PLAIN_RULES,
        counters: MutableSequence[int] | None = None,
        at: int = 0,
    ) -> None:
        """As that of RequestReader."""
        self._parser = parser
        self._rules = rules
        self._counters = [0] if counters is None else counters
        self._at = at
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
            self._counters[self._at] += 1
            try:
                response = prepare_response(self._parser.response(raw), self._rules)
            except MessageError as error:
                raise MessageError(502, error.what, error.detail) from None
            self._cache.offer(raw, response)
        return response
