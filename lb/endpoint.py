"""An endpoint: one address that can serve. A plain value, shared by every layer."""

from __future__ import annotations

from typing import NamedTuple

EndpointKey = tuple[str, str, int]
"""What identifies an endpoint: (uid, address, port). The uid is a pod's; it is empty outside Kubernetes."""


class Endpoint(NamedTuple):
    """One address that can serve.

    The identity is `key`; whatever else changes, it is the same endpoint.
    It is a tuple so that a whole snapshot is plain data: it can cross a thread boundary and be compared.
    """

    key: EndpointKey
    name: str = ""
    weight: int = 1
    node: str = ""
    zone: str = ""
    ready: bool = True
    was_ready: bool = False
    """It was ready, is not now, and is not terminating: of use when no other is (panic)."""

    @property
    def uid(self) -> str:
        """The pod's uid, or an empty string."""
        return self.key[0]

    @property
    def address(self) -> str:
        """The IP address as text."""
        return self.key[1]

    @property
    def port(self) -> int:
        """The TCP port."""
        return self.key[2]

    @property
    def authority(self) -> str:
        """`address:port`, an IPv6 address in brackets (RFC 3986, section 3.2)."""
        return format_authority(self.key[1], self.key[2])


Snapshot = tuple[Endpoint, ...]
"""The complete, immutable set of endpoints at one moment, in the order of rotation."""


def make_endpoint(address: str, port: int, *, name: str = "", uid: str = "") -> Endpoint:
    """Return the endpoint at `address`:`port`."""
    return Endpoint(key=(uid, address, port), name=name)


def format_authority(host: str, port: int) -> str:
    """Return `host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
