"""The response head we received → the head we send (RFC 9110, section 7.6)."""

from __future__ import annotations

from lb.http1.forwarding import KEEP_ALIVE, PLAIN_RULES, ForwardingRules, framing_line, upgrades_in, without
from lb.http1.framing import CHUNKED, LENGTH, NO_BODY, UNTIL_CLOSE, Framing, response_framing
from lb.http1.message import ResponseHead, list_members

_CRLF = b"\r\n"
_CHUNKED = Framing(CHUNKED)
_UNTIL_CLOSE = Framing(UNTIL_CLOSE)
_NO_NAMES: frozenset[bytes] = frozenset()


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
        "named",
        "plain",
        "reusable",
        "reusable_after_head",
        "status",
        "status_class",
        "upgrades",
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
        self.named = _NO_NAMES
        """The fields that Connection names, in lower case: not to be passed on as trailers either."""
        self.upgrades = _NO_NAMES
        """The protocols, in lower case, to which a 101 response switches."""
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
            self._length if framing.kind == NO_BODY else framing_line(framing),
            b"" if self.has_date else b"Date: %b\r\n" % date,
            b"Connection: close\r\n" if close else b"",
        )


def prepare_response(head: ResponseHead, rules: ForwardingRules = PLAIN_RULES) -> Response:
    """Return what is forwarded for `head`. Raises MessageError(502)."""
    framing, trusted = response_framing(head)
    status = head.status
    options = upgrade = b""
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
        elif key == b"upgrade":
            upgrade = upgrade + b"," + value if upgrade else value
    persistent = head.minor == 1
    named = _NO_NAMES
    if options and options not in KEEP_ALIVE:
        named = frozenset(list_members(options))
        persistent = persistent and b"close" not in named
        has_date = has_date and b"date" not in named
        kept = without(kept, named)
    # RFC 9110, section 8.6: no Content-Length in 1xx and 204; to HEAD and in 304 it tells what there would have been.
    if status < 200 or status == 204 or framing.kind == CHUNKED:
        length = b""
    switching = _switching_lines(status, upgrade, named, rules) if upgrade else b""
    fields = b"HTTP/1.1 %d %b\r\n%b%b" % (status, head.reason, _CRLF.join([*kept, b""]), switching)
    response = Response(head, framing, fields, length)
    response.named = named
    if status == 101 and switching:
        response.upgrades = upgrades_in(upgrade)
    response.has_date = has_date
    response.reusable = trusted and persistent
    response.reusable_after_head = persistent and (trusted or framing.kind == UNTIL_CLOSE)
    # (A 503 may be answered by another endpoint: what is decided first is not in the shortest path.)
    if response.has_date and framing.kind in (LENGTH, CHUNKED, NO_BODY) and status != 503:
        response.plain = response.head_for(framing=framing, close=False, date=b"")
        response.closing = response.head_for(framing=framing, close=True, date=b"")
    return response


def _switching_lines(status: int, upgrade: bytes, named: frozenset[bytes], rules: ForwardingRules) -> bytes:
    """Return Connection and Upgrade as they are sent, where Upgrade is no hop-by-hop noise (RFC 9110, section 7.8).

    That is in a 101 response, which must say what it switches to, and in a 426, which must say what would be welcome.
    """
    if status == 101 and b"upgrade" in named:
        protocols = upgrade
    elif status == 426:
        # Never what may not be asked for: h2c, for one.
        protocols = b", ".join(name for name in sorted(upgrades_in(upgrade)) if name in rules.upgrades)
    else:
        return b""
    return b"Connection: Upgrade\r\nUpgrade: %b\r\n" % protocols if protocols else b""
