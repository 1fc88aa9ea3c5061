"""The request head we received → the head we send (RFC 9110, section 7.6).

What a request needs on its way is worked out once, in `prepare_request`, and kept in one object; `responses` does the
same for responses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

from lb.endpoint import Endpoint
from lb.http1.framing import CHUNKED, LENGTH, NO_BODY, Framing, request_framing
from lb.http1.message import Field, MessageError, RequestHead, field_line, list_members
from lb.http1.target import host_and_path, host_lines

_CRLF = b"\r\n"

# What Connection nearly always says: nothing to remove.
KEEP_ALIVE = frozenset([b"keep-alive", b"Keep-Alive", b"keep-Alive", b"Keep-alive"])

_REFUSED = frozenset([b"CONNECT", b"TRACE"])
# RFC 9110, section 9.2.2.
_IDEMPOTENT = frozenset([b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"])

_REQUEST_ID = re.compile(rb"[!-~]{1,128}")
_HOPS = re.compile(rb"[0-9]{1,10}")
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]{0,31}")
_WITHOUT_BODY = Framing(NO_BODY)
_NO_NAMES: frozenset[bytes] = frozenset()
_SWITCHING = frozenset([b"upgrade", b"te"])
_CHAIN = b"x-forwarded-for"
_REPLACED = frozenset([_CHAIN, b"x-forwarded-proto", b"x-forwarded-host"])


class ForwardingRules(NamedTuple):
    """What the configuration says about forwarding."""

    upgrades: frozenset[bytes] = _NO_NAMES
    """The protocols, in lower case, that a connection may be switched to (`allowedUpgrades`)."""
    trusts_client: bool = False
    """Are the X-Forwarded-* fields of this client believed (`trustedProxies`)?"""
    trace_key: bytes = b""
    """A secret of this process, if traces begin here where none has begun (`tracing`); else empty."""


PLAIN_RULES = ForwardingRules()


class Rare(NamedTuple):
    """What hardly a request has. One attribute for all: with one each, an exchange took 0.7 % more instructions."""

    named: frozenset[bytes] = _NO_NAMES
    """The fields that Connection names, in lower case: not to be passed on as trailers either."""
    upgrades: frozenset[bytes] = _NO_NAMES
    """The protocols, in lower case, that the endpoint may switch to."""
    is_for_us: bool = False
    """Are we its last recipient (RFC 9110, section 7.6.2: Max-Forwards is 0)?"""


_NOTHING_RARE = Rare()


class Request:
    """A request as it is forwarded: everything that the data path needs to know of its head."""

    __slots__ = (
        "chunked",
        "framing",
        "host_at",
        "idempotent",
        "is_head",
        "is_simple",
        "log_words",
        "method",
        "minor",
        "persistent",
        "prefix",
        "rare",
        "request_id",
        "size",
        "target",
    )

    def __init__(self, head: RequestHead, framing: Framing, prefix: bytes) -> None:
        self.method = head.method
        self.target = head.target
        self.minor = head.minor
        self.framing = framing
        self.prefix = prefix
        """The head to send, up to the client's own address in X-Forwarded-For."""
        self.request_id: bytes | None = None
        """The client's own X-Request-Id, where it may be kept."""
        self.is_head = head.method == b"HEAD"
        self.idempotent = head.method in _IDEMPOTENT
        self.chunked = framing.kind == CHUNKED
        self.is_simple = framing.kind == NO_BODY
        """Is there nothing to do but to forward its head? So it is with nearly all."""
        self.persistent = True
        """May another request follow on the client's connection?"""
        self.rare = _NOTHING_RARE
        self.size = 0
        """Of its head as it came, in bytes."""
        self.log_words = b""
        """What the access log says of it, once it has been said."""
        self.host_at = 0
        """Where in `prefix` the endpoint's address goes as Host, if the client (HTTP/1.0) sent none; else 0."""

    @property
    def has_body(self) -> bool:
        """Does a body follow?"""
        return self.framing.kind != NO_BODY

    def head_for(self, endpoint: Endpoint, forwarded_for: bytes, request_id: bytes) -> bytes:
        """Return the head to send to `endpoint`, for the client at `forwarded_for`."""
        prefix = self.prefix
        if self.host_at:
            host = endpoint.authority.encode()
            prefix = b"%bHost: %b\r\n%b" % (prefix[: self.host_at], host, prefix[self.host_at :])
        return b"%b%b\r\nX-Request-Id: %b\r\n\r\n" % (prefix, forwarded_for, request_id)


class UntracedRequest(Request):
    """A request without `traceparent`, with which a trace begins here."""

    __slots__ = ("_trace_key",)

    def __init__(self, head: RequestHead, framing: Framing, prefix: bytes, trace_key: bytes) -> None:
        super().__init__(head, framing, prefix)
        self._trace_key = trace_key

    def head_for(self, endpoint: Endpoint, forwarded_for: bytes, request_id: bytes) -> bytes:
        """Return the head to send, with a `traceparent` that is the same for every attempt of an exchange."""
        line = b"\r\ntraceparent: " + traceparent(request_id, self._trace_key)
        return super().head_for(endpoint, forwarded_for, request_id + line)


def traceparent(request_id: bytes, key: bytes) -> bytes:
    """Return the value of the field for a trace that begins with this request: ids that nobody can foresee, sampled.

    (W3C Trace Context, section 3.2.2: version 00, trace-id, parent-id, trace-flags. With 00 for flags nobody behind us
    would record it.)
    """
    ids = blake2b(request_id, digest_size=24, key=key).hexdigest().encode()
    return b"00-%b-%b-01" % (ids[:32], ids[32:])


# What comes of Host and Connection where a request of HTTP/1.1 has no other field that is looked at: the line Host, and
# what stands behind the fields that are passed on. One client's, or one service's, are nearly always the same: to look
# them up takes half of the time that it takes to go through them (a browser's head costs 6 % less).
_usual: dict[tuple[Field, ...], tuple[bytes, bytes]] = {}
_USUAL = frozenset([b"host", b"connection"])
_USUAL_COUNT = 256
_USUAL_BYTES = 512


def prepare_request(head: RequestHead, rules: ForwardingRules = PLAIN_RULES) -> Request:
    """Return what is forwarded for `head`. Raises MessageError for what may not be forwarded."""
    method = head.method
    if method in _REFUSED:
        raise MessageError(405, "method", f"{method.decode()} is not allowed here")
    if head.minor and not rules.trace_key:
        usual = _usual.get(tuple(head.special))
        target = head.target
        if usual is not None and target[:1] == b"/" and b"#" not in target:
            kept = head.lines.copy()
            for field in head.special:
                kept.remove(field[2])
            kept.append(b"")
            host_line, behind = usual
            prefix = b"%b %b HTTP/1.1\r\n%b%b%b" % (method, target, host_line, _CRLF.join(kept), behind)
            return Request(head, _WITHOUT_BODY, prefix)
    framing = request_framing(head)
    host: bytes | None = None
    request_ids: list[bytes] = []
    options = b""
    switches: tuple[tuple[bytes, bytes], ...] = ()
    forwarded: tuple[Field, ...] = ()
    has_hops = is_for_us = False
    kept = head.lines.copy()
    for key, value, line in head.special:
        if key == b"host":
            if host is not None:
                raise MessageError(400, "host", "Host is missing or repeated")
            host = value
        elif key == b"connection":
            options = options + b"," + value if options else value
        elif key in _SWITCHING:
            switches = (*switches, (key, value))
        elif key == b"x-request-id":
            request_ids.append(value)
        elif key == b"expect":
            # RFC 9110, section 10.1.1: ignored in an HTTP/1.0 request.
            if head.minor:
                if list_members(value) != [b"100-continue"]:
                    raise MessageError(417, "expect", "only 100-continue can be expected")
                continue
        elif key == b"max-forwards":
            if method == b"OPTIONS":
                if has_hops:
                    raise MessageError(400, "max_forwards", "Max-Forwards is repeated")
                has_hops = True
                kept[kept.index(line)], is_for_us = _one_hop_less(line, value)
            continue
        elif key.startswith(b"x-forwarded-"):
            forwarded = (*forwarded, Field(key, value, line))
        kept.remove(line)
    target = head.target
    if not target.startswith(b"/"):
        host, target = host_and_path(head, host)
    elif b"#" in target:
        # RFC 9112, section 3.2.1: a path and a query. A fragment never goes to a server.
        raise MessageError(400, "target", "the request target has a fragment")
    if host is None:
        if head.minor:
            raise MessageError(400, "host", "Host is missing or repeated")
        host_line = forwarded_host = b""
    else:
        host_line, forwarded_host = host_lines(host)

    named = _NO_NAMES
    if options and options not in KEEP_ALIVE:
        named = frozenset(list_members(options))
        kept = without(kept, named)
    upgrades = _NO_NAMES
    hop = b""
    if switches and head.minor:
        # RFC 9110, section 7.8: Upgrade is ignored in HTTP/1.0.
        hop, upgrades = _hop_lines(switches, rules.upgrades if b"upgrade" in named else _NO_NAMES)
    start_line = b"%b %b HTTP/1.1\r\n" % (method, target)
    tail = (
        b"X-Forwarded-Proto: http\r\nVia: 1.1 podlb\r\nX-Forwarded-For: "
        if head.minor
        else b"X-Forwarded-Proto: http\r\nVia: 1.0 podlb\r\nX-Forwarded-For: "
    )
    if forwarded and rules.trusts_client:
        more, forwarded_host, tail = _believed(forwarded, forwarded_host, tail)
        kept += without(more, named)
    kept.append(b"")
    framing_bytes = framing_line(framing) if framing.kind else b""
    prefix = b"".join([start_line, host_line, _CRLF.join(kept), hop, framing_bytes, forwarded_host, tail])
    if host is not None and target is head.target and head.minor and not named:
        _remember_usual(head.special, host_line, forwarded_host + tail)
    if rules.trace_key and not any(line[:12].lower() == b"traceparent:" for line in kept):
        request: Request = UntracedRequest(head, framing, prefix, rules.trace_key)
    else:
        request = Request(head, framing, prefix)
    if request_ids and len(request_ids) == 1 and _REQUEST_ID.fullmatch(request_ids[0]):
        request.request_id = request_ids[0]
    request.host_at = len(start_line) if host is None else 0
    # RFC 9112, section 9.3: a proxy must not keep an HTTP/1.0 client's connection.
    request.persistent = head.minor == 1 and b"close" not in named
    if named or is_for_us:
        # (Nobody switches without an option of Connection.)
        request.rare = Rare(named, upgrades, is_for_us)
        request.is_simple = request.is_simple and not is_for_us
    return request


def _remember_usual(special: list[Field], host_line: bytes, behind: bytes) -> None:
    if all(field.key in _USUAL for field in special) and sum(len(field.line) for field in special) <= _USUAL_BYTES:
        if len(_usual) >= _USUAL_COUNT:
            _usual.clear()
        _usual[tuple(special)] = (host_line, behind)


def _one_hop_less(line: bytes, value: bytes) -> tuple[bytes, bool]:
    """Return the line for Max-Forwards to send, and whether the request goes no further than here."""
    if _HOPS.fullmatch(value) is None:
        raise MessageError(400, "max_forwards", "Max-Forwards is not a plain decimal number")
    hops = int(value)
    return field_line(line.partition(b":")[0], b"%d" % max(hops - 1, 0)), hops == 0


def _hop_lines(fields: Iterable[tuple[bytes, bytes]], allowed: frozenset[bytes]) -> tuple[bytes, frozenset[bytes]]:
    """Return our own Connection with the fields that it names, and the protocols that may be switched to.

    Only `trailers` survives of TE (RFC 9110, section 10.1.4; gRPC servers ask for it), and of Upgrade what is allowed.
    """
    protocols: list[bytes] = []
    options: list[bytes] = []
    lines: list[bytes] = []
    for key, value in fields:
        members = [member.strip(b" \t") for member in value.split(b",")]
        if key == b"upgrade":
            protocols += [member for member in members if _protocol(member) in allowed]
        elif b"TE" not in options and b"trailers" in [member.lower() for member in members]:
            options.append(b"TE")
            lines.append(b"TE: trailers\r\n")
    if protocols:
        options.append(b"Upgrade")
        lines.append(b"Upgrade: %b\r\n" % b", ".join(protocols))
    if not options:
        return b"", _NO_NAMES
    connection = b"Connection: %b\r\n" % b", ".join(options)
    return b"".join([connection, *lines]), frozenset(_protocol(protocol) for protocol in protocols)


def _protocol(member: bytes) -> bytes:
    """Return the name of a protocol, without its version, in lower case."""
    return member.partition(b"/")[0].lower()


def upgrades_in(value: bytes) -> frozenset[bytes]:
    """Return the names of the protocols in an Upgrade field's value, in lower case."""
    return frozenset(_protocol(member) for member in list_members(value))


def _believed(fields: Iterable[Field], host_line: bytes, tail: bytes) -> tuple[list[bytes], bytes, bytes]:
    """Return what a trusted proxy's X-Forwarded-* come to: other lines to keep, X-Forwarded-Host, and the head's tail.

    Its chain of addresses is continued with its own; scheme and host that it tells once replace ours.
    """
    values: dict[bytes, list[bytes]] = {key: [] for key in _REPLACED}
    others = []
    for key, value, line in fields:
        if key in _REPLACED:
            values[key].append(value)
        else:
            others.append(line)
    hosts, schemes = values[b"x-forwarded-host"], values[b"x-forwarded-proto"]
    if len(hosts) == 1 and hosts[0]:
        host_line = b"X-Forwarded-Host: %b\r\n" % hosts[0]
    if len(schemes) == 1 and _SCHEME.fullmatch(schemes[0]):
        tail = tail.replace(b"X-Forwarded-Proto: http\r\n", b"X-Forwarded-Proto: %b\r\n" % schemes[0])
    chain = b", ".join(filter(None, values[_CHAIN]))
    return others, host_line, tail + chain + b", " if chain else tail


def without(lines: list[bytes], named: frozenset[bytes]) -> list[bytes]:
    """Return the field lines whose names are not among `named` (RFC 9110, section 7.6.1)."""
    return [line for line in lines if line.partition(b":")[0].lower() not in named]


def framing_line(framing: Framing) -> bytes:
    """Return the field line that tells how a body is framed; nothing for one without."""
    if framing.kind == LENGTH:
        return b"Content-Length: %d\r\n" % framing.length
    return b"Transfer-Encoding: chunked\r\n" if framing.kind == CHUNKED else b""
