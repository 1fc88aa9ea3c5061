"""EndpointSlices and Endpoints objects as the API server sends them."""

from __future__ import annotations

import json
from typing import Any

from msgspec import Raw


def endpoint(
    address: str | list[str] | None = "10.0.0.1",
    uid: str | None = "a",
    *,
    name: str | None = None,
    node: str | None = "node-1",
    zone: str | None = "zone-1",
    **conditions: bool | None,
) -> dict[str, Any]:
    """Return an endpoint of a slice; `conditions` that are not given are left out."""
    made: dict[str, Any] = {"addresses": [address] if isinstance(address, str) else address, "conditions": conditions}
    if uid is not None:
        made["targetRef"] = {"kind": "Pod", "name": name or f"pod-{uid}", "uid": uid}
    if node is not None:
        made["nodeName"] = node
    if zone is not None:
        made["zone"] = zone
    return made


HTTP = {"name": "http", "port": 8080, "protocol": "TCP"}


def endpoint_slice(
    *endpoints: Any, name: str = "s-1", version: str = "1", kind: str = "IPv4", ports: Any = (HTTP,), **more: Any
) -> Raw:
    """Return a slice; `more` replaces whole keys."""
    content = {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": version, "labels": {}},
        "addressType": kind,
        "endpoints": list(endpoints),
        "ports": ports,
    }
    return raw(content | more)


def raw(content: Any) -> Raw:
    """Return a value as it stands in a list or in an event."""
    return Raw(json.dumps(content).encode())
