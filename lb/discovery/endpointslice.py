"""CORE: an EndpointSlice, or the older Endpoints object, → the endpoints that it lists.

The rules are those of the API (https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/ and the
reference of discovery.k8s.io/v1):

- a Service has several slices, each with its own ports; the same endpoint may stand in two of them for a while;
- `ready` left out means true, `serving` left out means as `ready`, `terminating` left out means false;
- of `addresses` the first is meant; `endpoints` and `ports` may be null.

One endpoint that can't be read hides no other: it is left out and told of.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Raw

from lb.endpoint import EndpointKey

READY = "ready"
SERVING = "serving"
"""It terminates, and still serves."""
TERMINATING = "terminating"
NOT_READY = "not_ready"
STATES = (READY, SERVING, TERMINATING, NOT_READY)


class Member(NamedTuple):
    """An endpoint of a Service, in whatever state."""

    key: EndpointKey
    name: str
    node: str
    zone: str
    state: str


class Parsed(NamedTuple):
    """What an object says. `ports` are those it lists, for people; `problems` sentences about what was left out."""

    name: str
    version: int
    members: tuple[Member, ...] = ()
    ports: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    has_port: bool | None = None
    """Does it list the port that is asked for? None: it lists no endpoint, so that does not matter."""


class UnreadableError(Exception):
    """The object as a whole can't be read."""


Port = int | str
Parse = Callable[[Raw | bytes, Port], Parsed]


class _Name(msgspec.Struct):
    name: str


class _Named(msgspec.Struct):
    metadata: _Name


class _Meta(_Name):
    resource_version: str = msgspec.field(default="", name="resourceVersion")


class _Port(msgspec.Struct):
    name: str | None = None
    port: int | None = None
    protocol: str | None = None


class _Conditions(msgspec.Struct):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class _Reference(msgspec.Struct):
    name: str | None = None
    uid: str | None = None


class _Endpoint(msgspec.Struct):
    addresses: list[str] | None = None
    conditions: _Conditions | None = None
    target: _Reference | None = msgspec.field(default=None, name="targetRef")
    node: str | None = msgspec.field(default=None, name="nodeName")
    zone: str | None = None


class _SliceBase(msgspec.Struct):
    metadata: _Meta
    kind: str = msgspec.field(default="", name="addressType")
    ports: list[_Port] | None = None


class _Slice(_SliceBase):
    endpoints: list[_Endpoint] | None = None


class _SliceInParts(_SliceBase):
    endpoints: list[Raw] | None = None


class _Address(msgspec.Struct):
    ip: str
    target: _Reference | None = msgspec.field(default=None, name="targetRef")
    node: str | None = msgspec.field(default=None, name="nodeName")


class _Subset(msgspec.Struct):
    addresses: list[Raw] | None = None
    not_ready: list[Raw] | None = msgspec.field(default=None, name="notReadyAddresses")
    ports: list[_Port] | None = None


class _Endpoints(msgspec.Struct):
    metadata: _Meta
    subsets: list[_Subset] | None = None


# Also what the rules below say of a value; the last is for what is nested without end.
_UNREADABLE = (ValueError, RecursionError)
_named = msgspec.json.Decoder(_Named)
_slice = msgspec.json.Decoder(_Slice)
_slice_in_parts = msgspec.json.Decoder(_SliceInParts)
_endpoint = msgspec.json.Decoder(_Endpoint)
_endpoints = msgspec.json.Decoder(_Endpoints)
_address = msgspec.json.Decoder(_Address)
_NO_CONDITIONS = _Conditions()
_NO_REFERENCE = _Reference()


def parse_slice(data: Raw | bytes, port: Port) -> Parsed:
    """Parse an EndpointSlice. `port` is dialled as it is, or looked up if it is a name. Raises UnreadableError."""
    found: _Slice | _SliceInParts
    try:
        found = _slice.decode(data)
    except _UNREADABLE:
        # Endpoint by endpoint, which takes longer: only some of them are bad, perhaps.
        try:
            found = _slice_in_parts.decode(data)
        except _UNREADABLE as error:
            raise UnreadableError(f"an EndpointSlice that can't be read: {error}") from None
    name = found.metadata.name
    if found.kind not in ("IPv4", "IPv6"):
        return Parsed(name, 0, problems=(f"EndpointSlice {name}: addresses of type {found.kind[:20]!r} can't be used",))
    number = _port_number(found.ports, port)
    members: list[Member] = []
    problems: list[str] = []
    endpoints: Sequence[_Endpoint | Raw] = found.endpoints or ()
    if number is not None:
        for at, one in enumerate(endpoints):
            try:
                members.append(_member(one if isinstance(one, _Endpoint) else _endpoint.decode(one), number))
            except _UNREADABLE as error:
                problems.append(f"EndpointSlice {name}: endpoint {at} is left out: {error}")
    return Parsed(
        name,
        _version(found.metadata),
        tuple(members),
        _listed(found.ports),
        tuple(problems),
        has_port=_lists(found.ports, port) if found.endpoints else None,
    )


def parse_endpoints(data: Raw | bytes, port: Port) -> Parsed:
    """Parse an Endpoints object (deprecated since Kubernetes 1.33). Otherwise as `parse_slice`."""
    try:
        found = _endpoints.decode(data)
    except _UNREADABLE as error:
        raise UnreadableError(f"an Endpoints object that can't be read: {error}") from None
    name = found.metadata.name
    members: list[Member] = []
    problems: list[str] = []
    ports: list[str] = []
    has_port: bool | None = None
    for subset in found.subsets or ():
        ports += _listed(subset.ports)
        if subset.addresses or subset.not_ready:
            has_port = has_port or _lists(subset.ports, port)
        number = _port_number(subset.ports, port)
        if number is None:
            continue
        for state, raws in ((READY, subset.addresses), (NOT_READY, subset.not_ready)):
            for raw in raws or ():
                try:
                    address = _address.decode(raw)
                    members.append(_make(address.ip, number, address.target, address.node, None, state))
                except _UNREADABLE as error:
                    problems.append(f"Endpoints {name}: an address is left out: {error}")
    return Parsed(name, _version(found.metadata), tuple(members), tuple(ports), tuple(problems), has_port)


def name_of(data: Raw | bytes) -> str | None:
    """Return the name of an object that can't be read otherwise, or None."""
    try:
        return _named.decode(data).metadata.name
    except _UNREADABLE:
        return None


def _member(found: _Endpoint, port: int) -> Member:
    if not found.addresses:
        raise ValueError("it has no address")
    conditions = found.conditions or _NO_CONDITIONS
    ready = conditions.ready is not False
    serving = ready if conditions.serving is None else conditions.serving
    alive, dead = (SERVING, TERMINATING) if conditions.terminating else (READY, NOT_READY)
    state = alive if (serving if conditions.terminating else ready) else dead
    return _make(found.addresses[0], port, found.target, found.node, found.zone, state)


def _make(
    address: str, port: int, reference: _Reference | None, node: str | None, zone: str | None, state: str
) -> Member:
    target = reference or _NO_REFERENCE
    return Member((target.uid or "", _dialable(address), port), target.name or "", node or "", zone or "", state)


_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
# From 1.0.0.0 up to 223.255.255.255.
_USUAL_IPV4 = re.compile(rf"(?:22[0-3]|2[01][0-9]|1[0-9]{{2}}|[1-9][0-9]?)(?:\.{_OCTET}){{3}}")


@functools.lru_cache(maxsize=16384)
def _dialable(address: str) -> str:
    """Return the IP address in its usual form. Raises ValueError."""
    # (Nearly all are so, and the rest takes as long as everything else that is done with an endpoint.)
    if _USUAL_IPV4.fullmatch(address):
        return address
    parsed = ipaddress.ip_address(address)
    if parsed.is_unspecified or parsed.is_multicast:
        raise ValueError(f"{address} can't be dialled")
    return str(parsed)


def _version(meta: _Meta) -> int:
    """Return the resourceVersion as a number, or 0. It is compared only to tell the newer of two slices of one pod."""
    version = meta.resource_version
    return int(version) if version.isdecimal() and len(version) < 40 else 0


def _is_tcp(port: _Port) -> bool:
    return port.protocol in (None, "TCP")


def _is_port(port: _Port) -> bool:
    return port.port is not None and 0 < port.port < 65536


def _port_number(ports: list[_Port] | None, port: Port) -> int | None:
    if isinstance(port, int):
        return port
    return next(
        (found.port for found in ports or () if found.name == port and _is_tcp(found) and _is_port(found)), None
    )


def _lists(ports: list[_Port] | None, port: Port) -> bool:
    if ports is None:
        # Null means all ports.
        return isinstance(port, int)
    return any(_is_tcp(found) and port in (found.name, found.port) for found in ports)


def _listed(ports: list[_Port] | None) -> tuple[str, ...]:
    return tuple(f"{found.port} ({found.name})" if found.name else str(found.port) for found in ports or ())
