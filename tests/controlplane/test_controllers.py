"""Slices as the real controller writes them, for pods whose kubelet is the test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.controlplane.kubeconfig import write_kubeconfig
from tests.controlplane.objects import SERVICE, Object
from tests.controlplane.plane import RealPlane
from tests.controlplane.podlb import follow
from tests.controlplane.real import ADMIN_TOKEN, Part, program, why_not
from tests.fakes import eventually, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

NODE = "tests-node"


@pytest.fixture
def controller(real_plane: RealPlane, tmp_path: Path) -> Iterator[Part]:
    """Run the controller that makes slices of pods."""
    assert why_not() is None
    server = real_plane.server
    kubeconfig = write_kubeconfig(tmp_path / "controller", server.url, server.authority, ADMIN_TOKEN)
    part = Part(
        tmp_path / "controller.log",
        [
            program("kube-controller-manager"),
            f"--kubeconfig={kubeconfig}",
            "--controllers=endpointslice-controller",
            "--endpointslice-updates-batch-period=0s",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
        ],
    )
    part.start()
    try:
        yield part
    finally:
        part.kill()


class Pods:
    """Pods in a namespace, which are what the test says they are."""

    def __init__(self, plane: RealPlane) -> None:
        self._admin = plane.server.admin
        self._path = f"/api/v1/namespaces/{plane.namespace}/pods"
        node = {"kind": "Node", "apiVersion": "v1", "metadata": {"name": NODE}}
        self._admin.call("POST", "/api/v1/nodes", node).expect(201, 409)
        service = {
            "kind": "Service",
            "apiVersion": "v1",
            "metadata": {"name": SERVICE},
            "spec": {"selector": {"app": "backend"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        }
        self._admin.call("POST", self._path.removesuffix("pods") + "services", service).expect()

    def create(self, name: str) -> str:
        """Create a pod on the node, and return its uid."""
        pod = {
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": {"name": name, "labels": {"app": "backend"}},
            "spec": {"nodeName": NODE, "containers": [{"name": "backend", "image": "backend"}]},
        }
        return str(self._admin.call("POST", self._path, pod).expect()["metadata"]["uid"])

    def report(self, name: str, address: str, *, ready: bool) -> None:
        """Say what a kubelet would."""
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        status: Object = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [condition]}
        content_type = "application/strategic-merge-patch+json"
        self._admin.call("PATCH", f"{self._path}/{name}/status", {"status": status}, content_type=content_type).expect()

    def delete(self, name: str, *, grace: int) -> None:
        """Begin to delete a pod, or with no grace be done with it."""
        self._admin.call("DELETE", f"{self._path}/{name}", gracePeriodSeconds=grace).expect()


def test_the_life_of_a_pod(real_plane: RealPlane, controller: Part, tmp_path: Path) -> None:
    pods = Pods(real_plane)
    with follow(real_plane, tmp_path) as podlb:
        podlb.wait_until_ready()
        uids = {name: pods.create(name) for name in ("a", "b")}
        pods.report("a", "10.0.0.1", ready=False)
        podlb.wait_for_line(r"endpoint added: pod a at 10\.0\.0\.1:8080 \(not_ready\)$", seconds=20.0)
        assert controller.is_running, controller.log
        assert podlb.rotation() == set()
        pods.report("a", "10.0.0.1", ready=True)
        podlb.wait_for_rotation(["10.0.0.1"])
        pods.report("b", "10.0.0.2", ready=True)
        podlb.wait_for_rotation(["10.0.0.1", "10.0.0.2"])
        assert {row["name"]: row["uid"] for row in podlb.rows()} == uids
        # Deleted, it goes out of rotation although it still serves; the kubelet has not ended it yet.
        pods.delete("a", grace=30)
        podlb.wait_for_line(r"endpoint updated: pod a at 10\.0\.0\.1:8080 \(ready -> serving\)$")
        podlb.wait_for_rotation(["10.0.0.2"])
        # Unless no other is left.
        pods.report("b", "10.0.0.2", ready=False)
        podlb.wait_for_rotation(["10.0.0.1"])
        pods.delete("a", grace=0)
        podlb.wait_for_line(r"endpoint deleted: pod a at 10\.0\.0\.1:8080 \(gone\)$")
        eventually(lambda: podlb.metric("panic") == 1, "panic: b was ready, and may answer")
        # The address goes to another pod.
        pods.create("c")
        pods.report("c", "10.0.0.1", ready=True)
        podlb.wait_for_rotation(["10.0.0.1"])
        assert podlb.metric("panic") == 0
        assert [row["name"] for row in podlb.rows() if row["state"] != "not ready"] == ["c"]
        assert json.dumps(podlb.rows()).count("10.0.0.1:8080") == 1
