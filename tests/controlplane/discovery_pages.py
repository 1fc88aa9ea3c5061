"""What an API server says of itself: the pages that kubectl reads before it asks for anything."""

from __future__ import annotations

from tests.controlplane.objects import ENDPOINTS, RESOURCES, SLICES, Resource
from tests.controlplane.wire import to_json


def _resources(resource: Resource) -> dict[str, object]:
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": resource.api_version,
        "resources": [
            {
                "name": resource.plural,
                "singularName": "",
                "namespaced": True,
                "kind": resource.kind,
                "verbs": ["list", "watch"],
            }
        ],
    }


_GROUP_VERSION = {"groupVersion": SLICES.api_version, "version": SLICES.version}
_GROUP = {"name": SLICES.group, "versions": [_GROUP_VERSION], "preferredVersion": _GROUP_VERSION}

PAGES = {
    "/readyz": b"ok",
    "/livez": b"ok",
    "/api": to_json({"kind": "APIVersions", "versions": [ENDPOINTS.version]}),
    "/apis": to_json({"kind": "APIGroupList", "apiVersion": "v1", "groups": [_GROUP]}),
    **{resource.prefix: to_json(_resources(resource)) for resource in RESOURCES.values()},
}
