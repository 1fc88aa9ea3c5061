"""Our API server and the real one, held against each other: the same requests, the same answers.

What it is that differs (uids, dates, versions, ids of requests) is left out of the comparison by name.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import kubernetes.client
import kubernetes.watch
import pytest
from kubernetes.client import Configuration
from kubernetes.config import load_kube_config

from tests.controlplane.apiserver import TOKEN, ApiServer
from tests.controlplane.objects import (
    ENDPOINTS,
    SERVICE,
    SERVICE_LABEL,
    SLICES,
    Object,
    endpoint,
    endpoint_slice,
    endpoints_object,
    ready,
)
from tests.controlplane.plane import FakePlane, Plane
from tests.controlplane.real import program, why_not

SELECTED = {"labelSelector": f"{SERVICE_LABEL}={SERVICE}"}


def path_of(plane: Plane) -> str:
    return SLICES.path(plane.namespace)


def version_of(plane: Plane) -> int:
    return int(plane.client.get(path_of(plane), **SELECTED).expect()["metadata"]["resourceVersion"])


def names(items: list[Object]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


def told(events: list[Object]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"]["name"]) for event in events]


def fill(plane: Plane, count: int = 5) -> None:
    plane.put(*(endpoint_slice(f"s{n}", [ready(f"10.0.0.{n + 1}", pod=f"pod-{n}")]) for n in range(count)))
    plane.put(endpoint_slice("elsewhere", [ready("10.0.9.9")], service="other"))


def test_a_list_is_of_the_service_alone_and_keeps_what_was_written(plane: Plane) -> None:
    fill(plane, 2)
    plane.put(endpoint_slice("bare", [endpoint("10.0.3.1", node=None)], [{"name": "", "port": 80, "protocol": "TCP"}]))
    answer = plane.client.get(path_of(plane), **SELECTED)
    document = answer.expect(200)
    assert answer.fields["content-type"] == "application/json"
    assert (document["kind"], document["apiVersion"]) == ("EndpointSliceList", "discovery.k8s.io/v1")
    assert names(document["items"]) == ["bare", "s0", "s1"]
    bare, first, _ = document["items"]
    assert set(first) == {"metadata", "addressType", "endpoints", "ports"}
    assert first["metadata"].keys() == {
        *("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "labels", "managedFields")
    }
    assert first["metadata"]["labels"] == {SERVICE_LABEL: SERVICE}
    assert first["endpoints"] == [ready("10.0.0.1", pod="pod-0")]
    assert bare["endpoints"] == [{"addresses": ["10.0.3.1"], "conditions": {}}]
    assert int(document["metadata"]["resourceVersion"]) >= int(bare["metadata"]["resourceVersion"])


def test_a_service_without_slices_is_an_empty_list(plane: Plane) -> None:
    document = plane.client.get(path_of(plane), **SELECTED).expect(200)
    assert document["items"] == []
    assert document["metadata"]["resourceVersion"].isdigit()


def test_pages_are_of_one_version(plane: Plane) -> None:
    fill(plane)
    first = plane.client.get(path_of(plane), **SELECTED, limit=2).expect(200)
    plane.delete("s3")
    more = {"limit": 2, "continue": first["metadata"]["continue"]}
    second = plane.client.get(path_of(plane), **SELECTED, **more).expect(200)
    more = {"limit": 2, "continue": second["metadata"]["continue"]}
    last = plane.client.get(path_of(plane), **SELECTED, **more).expect(200)
    pages = (first, second, last)
    assert [names(page["items"]) for page in pages] == [["s0", "s1"], ["s2", "s3"], ["s4"]]
    assert len({page["metadata"]["resourceVersion"] for page in pages}) == 1
    assert "continue" not in last["metadata"]
    assert all("remainingItemCount" not in page["metadata"] for page in pages)


def test_a_watch_tells_of_every_change_with_its_version(plane: Plane) -> None:
    fill(plane, 3)
    with plane.client.watch(path_of(plane), version_of(plane), **SELECTED) as watch:
        assert watch.status == 200
        plane.put(endpoint_slice("s0", [ready("10.0.8.1", pod="pod-8")]))
        plane.put(endpoint_slice("new", [], []))
        plane.delete("s1")
        plane.put(endpoint_slice("elsewhere", [ready("10.0.9.8")], service="other"))
        # Out of the selection by its label, and into it.
        plane.put(endpoint_slice("s2", [], service="other"))
        plane.put(endpoint_slice("elsewhere", [ready("10.0.9.8")]))
        events = watch.read(5)
    assert told(events) == [
        ("MODIFIED", "s0"),
        ("ADDED", "new"),
        ("DELETED", "s1"),
        ("DELETED", "s2"),
        ("ADDED", "elsewhere"),
    ]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(versions)
    assert len(set(versions)) == 5
    changed, new, deleted, *_ = (event["object"] for event in events)
    assert (changed["kind"], changed["apiVersion"]) == ("EndpointSlice", "discovery.k8s.io/v1")
    assert changed["endpoints"][0]["addresses"] == ["10.0.8.1"]
    assert not new["endpoints"]
    assert deleted["endpoints"][0]["addresses"] == ["10.0.0.2"]


def test_a_watch_from_an_older_version_begins_with_what_happened_since(plane: Plane) -> None:
    fill(plane, 2)
    before = version_of(plane)
    plane.put(endpoint_slice("s0", []))
    plane.delete("s1")
    with plane.client.watch(path_of(plane), before, **SELECTED) as watch:
        assert told(watch.read(2)) == [("MODIFIED", "s0"), ("DELETED", "s1")]


@pytest.mark.slow
def test_a_watch_ends_in_time_and_says_up_to_where_first(plane: Plane) -> None:
    fill(plane, 1)
    # Bookmarks are due 2 s before the end; the real one looks about every second who is to get one, and some get two.
    # It has none to give before its cache has seen a change, hence one.
    query = {"timeoutSeconds": 5, "allowWatchBookmarks": "true", **SELECTED}
    with plane.client.with_timeout(9.0).watch(path_of(plane), version_of(plane), **query) as watch:
        plane.put(endpoint_slice("s0", []))
        (change,) = watch.read(1)
        plane.put(endpoint_slice("elsewhere", [], service="other"))
        bookmarks = list(watch)
    assert {event["type"] for event in bookmarks} == {"BOOKMARK"}
    bookmark = bookmarks[0]["object"]
    assert int(bookmark["metadata"].pop("resourceVersion")) > int(change["object"]["metadata"]["resourceVersion"])
    assert bookmark == {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {},
        "addressType": "",
        "endpoints": None,
        "ports": None,
    }


@pytest.mark.slow
def test_a_watch_from_a_version_to_come_is_silent(plane: Plane) -> None:
    # As after a restored etcd: neither the change nor a bookmark, nor an error. The end in time is all.
    fill(plane, 1)
    query = {"timeoutSeconds": 3, "allowWatchBookmarks": "true", **SELECTED}
    with plane.client.watch(path_of(plane), version_of(plane) + 1_000_000, **query) as watch:
        assert watch.status == 200
        plane.put(endpoint_slice("s0", []))
        assert list(watch) == []


def test_a_list_at_a_version_to_come_is_504(plane: Plane) -> None:
    current = version_of(plane)
    answer = plane.client.get(path_of(plane), resourceVersion=current + 1_000_000)
    document = answer.expect(504)
    assert answer.fields["retry-after"] == "1"
    message = document.pop("message")
    assert message.startswith(f"Timeout: Too large resource version: {current + 1_000_000}, current: ")
    assert document == {
        **STATUS,
        "reason": "Timeout",
        "details": {
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        },
        "code": 504,
    }


STATUS: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}


def test_without_a_good_token(plane: Plane) -> None:
    unauthorized = plane.client.with_token("nobody's").get(path_of(plane)).expect(401)
    assert unauthorized == {**STATUS, "message": "Unauthorized", "reason": "Unauthorized", "code": 401}
    anonymous = plane.client.with_token(None).get(path_of(plane)).expect(403)
    assert anonymous["message"].startswith('endpointslices.discovery.k8s.io is forbidden: User "system:anonymous" ')


@pytest.mark.parametrize("verb", ["list", "watch"])
def test_what_the_role_does_not_allow(plane: Plane, verb: str) -> None:
    plane.permit("watch" if verb == "list" else "list")
    query = {"watch": "1", "resourceVersion": "1"} if verb == "watch" else {}
    document = plane.client.get(path_of(plane), **query).expect(403)
    user = f"system:serviceaccount:{plane.namespace}:lb"
    assert document == {
        **STATUS,
        "message": f'endpointslices.discovery.k8s.io is forbidden: User "{user}" cannot {verb} resource '
        f'"endpointslices" in API group "discovery.k8s.io" in the namespace "{plane.namespace}"',
        "reason": "Forbidden",
        "details": {"group": "discovery.k8s.io", "kind": "endpointslices"},
        "code": 403,
    }
    document = plane.client.get(ENDPOINTS.path(plane.namespace)).expect(403)
    assert document["details"] == {"kind": "endpoints"}


def test_a_watch_that_was_allowed_goes_on_when_it_is_not_any_more(plane: Plane) -> None:
    fill(plane, 1)
    with plane.client.watch(path_of(plane), version_of(plane), **SELECTED) as watch:
        plane.permit("list")
        plane.put(endpoint_slice("s0", []))
        assert told(watch.read(1)) == [("MODIFIED", "s0")]


def test_endpoints_by_name(plane: Plane) -> None:
    plane.permit("list", "watch", plural="endpoints")
    plane.put(endpoints_object({"pod-1": "10.0.0.1"}, {"pod-2": "10.0.0.2"}), endpoints_object({}, service="other"))
    query = {"fieldSelector": f"metadata.name={SERVICE}"}
    path = ENDPOINTS.path(plane.namespace)
    document = plane.client.get(path, **query).expect(200)
    assert names(document["items"]) == [SERVICE]
    (subset,) = document["items"][0]["subsets"]
    assert subset["addresses"][0]["ip"] == "10.0.0.1"
    assert subset["notReadyAddresses"][0]["targetRef"]["uid"] == "uid-of-pod-2"
    with plane.client.watch(path, document["metadata"]["resourceVersion"], **query) as watch:
        plane.put(endpoints_object({}, service="other"))
        plane.delete(SERVICE, plural="endpoints")
        assert told(watch.read(1)) == [("DELETED", SERVICE)]


def test_after_a_restart_an_old_version_is_gone_in_the_stream(plane: Plane) -> None:
    fill(plane, 1)
    old = version_of(plane)
    plane.put(endpoint_slice("s0", []), endpoint_slice("s1", []))
    plane.stop()
    with pytest.raises(ConnectionRefusedError):
        plane.client.get(path_of(plane))
    if isinstance(plane, FakePlane):
        plane.server.forget()  # what a restart does to the real one's watch cache
    plane.start()
    with plane.client.watch(path_of(plane), old, **SELECTED) as watch:
        assert watch.status == 200
        (event,) = watch
    assert event["object"].pop("message").startswith(f"too old resource version: {old} (")
    assert event == {"type": "ERROR", "object": {**STATUS, "reason": "Expired", "code": 410}}


def test_a_frozen_one_takes_connections_and_says_nothing(plane: Plane) -> None:
    plane.freeze()
    with pytest.raises(TimeoutError):
        plane.client.with_timeout(0.3).get(path_of(plane))
    plane.thaw()
    plane.client.get(path_of(plane)).expect(200)


def test_pages_that_are_too_old_are_gone(apiserver: ApiServer) -> None:
    # The real one needs a compaction of etcd, every five minutes, for that.
    plane = FakePlane(apiserver)
    fill(plane, 3)
    first = plane.client.get(path_of(plane), **SELECTED, limit=2).expect(200)
    apiserver.forget()
    document = plane.client.get(path_of(plane), **{"continue": first["metadata"]["continue"]}).expect(410)
    assert document["reason"] == "Expired"
    assert document["metadata"]["continue"]


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_kubectl_takes_it_for_one(apiserver: ApiServer, tmp_path: Path) -> None:
    fill(FakePlane(apiserver), 2)
    command = [program("kubectl"), f"--server={apiserver.url}", f"--token={TOKEN}", "--insecure-skip-tls-verify"]
    command += [f"--cache-dir={tmp_path}", "--namespace=podlb", "get", "endpointslices", "-o", "name"]
    found = subprocess.run(
        [*command, f"--selector={SERVICE_LABEL}={SERVICE}"], capture_output=True, text=True, timeout=8
    )
    assert found.stdout.split() == ["endpointslice.discovery.k8s.io/s0", "endpointslice.discovery.k8s.io/s1"], found
    watching = subprocess.Popen([*command, "--watch"], stdout=subprocess.PIPE, text=True)
    try:
        apiserver.open_watch()
        apiserver.delete("podlb", "s0")
        assert watching.stdout is not None
        lines = [watching.stdout.readline().strip().rpartition("/")[2] for _ in range(4)]
    finally:
        watching.kill()
        watching.communicate()
    assert lines == ["elsewhere", "s0", "s1", "s0"]


def test_the_kubernetes_client_takes_it_for_one(apiserver: ApiServer, tmp_path: Path) -> None:
    fill(FakePlane(apiserver), 2)
    configuration = Configuration()
    load_kube_config(str(apiserver.kubeconfig(tmp_path / "kubeconfig")), client_configuration=configuration)
    with kubernetes.client.ApiClient(configuration) as client:
        api = kubernetes.client.DiscoveryV1Api(client)
        selector = f"{SERVICE_LABEL}={SERVICE}"
        found = api.list_namespaced_endpoint_slice("podlb", label_selector=selector)
        assert [item.metadata.name for item in found.items] == ["s0", "s1"]
        assert found.items[0].endpoints[0].conditions.ready is True
        apiserver.put("podlb", endpoint_slice("s0", []))
        watch = kubernetes.watch.Watch()
        events = watch.stream(
            api.list_namespaced_endpoint_slice,
            "podlb",
            label_selector=selector,
            resource_version=found.metadata.resource_version,
            timeout_seconds=1,
        )
        assert [(event["type"], event["object"].metadata.name) for event in events] == [("MODIFIED", "s0")]
