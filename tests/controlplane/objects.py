"""EndpointSlices, and Endpoints objects, as plain data: what a control plane would write for a Service and its pods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Object = dict[str, Any]

SERVICE = "backend-service"
SERVICE_LABEL = "kubernetes.io/service-name"


class Resource(NamedTuple):
    """A kind of object, and where the API server serves it."""

    plural: str
    kind: str
    group: str
    version: str
    empty: Mapping[str, object]
    """What a bookmark's object holds beside its metadata: Go's zero values of the fields that are not omitted."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def prefix(self) -> str:
        """The path of the group and version."""
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str) -> str:
        """The path of the collection in a namespace."""
        return f"{self.prefix}/namespaces/{namespace}/{self.plural}"


SLICES = Resource(
    "endpointslices", "EndpointSlice", "discovery.k8s.io", "v1", {"addressType": "", "endpoints": None, "ports": None}
)
ENDPOINTS = Resource("endpoints", "Endpoints", "", "v1", {})
RESOURCES = {resource.plural: resource for resource in (SLICES, ENDPOINTS)}


def resource_of(obj: Object) -> Resource:
    """Return the resource of which `obj` is one."""
    return next(resource for resource in RESOURCES.values() if resource.kind == obj["kind"])


def endpoint(
    *addresses: str,
    pod: str | None = None,
    uid: str | None = None,
    node: str | None = "node-1",
    zone: str | None = None,
    **conditions: bool | None,
) -> Object:
    """Return an endpoint of a slice. Conditions (ready, serving, terminating) that are not given are absent."""
    # Without any, the API server writes an empty object.
    made: Object = {"addresses": list(addresses), "conditions": conditions}
    if node is not None:
        made["nodeName"] = node
    if zone is not None:
        made["zone"] = zone
    if pod is not None:
        made["targetRef"] = {"kind": "Pod", "namespace": "default", "name": pod, "uid": uid or f"uid-of-{pod}"}
    return made


def ready(*addresses: str, pod: str | None = None, uid: str | None = None) -> Object:
    """Return the endpoint of a pod that is ready."""
    return endpoint(*addresses, pod=pod, uid=uid, ready=True, serving=True, terminating=False)


def not_ready(*addresses: str, pod: str | None = None, uid: str | None = None) -> Object:
    """Return the endpoint of a pod whose probe fails."""
    return endpoint(*addresses, pod=pod, uid=uid, ready=False, serving=False, terminating=False)


def terminating(*addresses: str, pod: str | None = None, uid: str | None = None, serving: bool = True) -> Object:
    """Return the endpoint of a pod that is being deleted."""
    return endpoint(*addresses, pod=pod, uid=uid, ready=False, serving=serving, terminating=True)


def port(number: int | None, name: str | None = "http") -> Object:
    """Return a port of a slice."""
    return {"name": name or "", "port": number, "protocol": "TCP"}


def endpoint_slice(
    name: str,
    endpoints: Sequence[Object] | None,
    ports: Iterable[Object] | int = 8080,
    *,
    service: str = SERVICE,
    family: str = "IPv4",
    labels: Mapping[str, str] | None = None,
) -> Object:
    """Return a slice of `service`. A number of `ports` stands for one port called http."""
    return {
        "kind": SLICES.kind,
        "apiVersion": SLICES.api_version,
        "metadata": {"name": name, "labels": {SERVICE_LABEL: service, **(labels or {})}},
        "addressType": family,
        "endpoints": None if endpoints is None else list(endpoints),
        "ports": [port(ports)] if isinstance(ports, int) else list(ports),
    }


def endpoints_object(
    ready_addresses: Mapping[str, str],
    not_ready_addresses: Mapping[str, str] | None = None,
    ports: Iterable[Object] | int = 8080,
    *,
    service: str = SERVICE,
) -> Object:
    """Return the Endpoints object of a Service. The addresses are pod → address."""

    def listed(addresses: Mapping[str, str]) -> list[Object]:
        return [
            {"ip": address, "nodeName": "node-1", "targetRef": {"kind": "Pod", "name": pod, "uid": f"uid-of-{pod}"}}
            for pod, address in addresses.items()
        ]

    subset: Object = {"ports": [port(ports)] if isinstance(ports, int) else list(ports)}
    if ready_addresses:
        subset["addresses"] = listed(ready_addresses)
    if not_ready_addresses:
        subset["notReadyAddresses"] = listed(not_ready_addresses)
    return {
        "kind": ENDPOINTS.kind,
        "apiVersion": ENDPOINTS.api_version,
        "metadata": {"name": service},
        "subsets": [subset] if len(subset) > 1 else [],
    }


def pods(count: int, *, first: int = 1) -> list[Object]:
    """Return so many ready endpoints at 10.0.X.Y, of pods called pod-N."""
    return [ready(f"10.0.{n // 250}.{n % 250 + 1}", pod=f"pod-{n}") for n in range(first, first + count)]
