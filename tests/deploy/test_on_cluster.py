"""deploy/base on a real node: containerd runs the images, the kubelet probes and stops them, kube-proxy leads there."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.cluster import Cluster, CommandFailedError, run
from tests.deploy.files import DEPLOY, OPERATOR_API, OVERLAYS, SCRIPT
from tests.fakes import eventually, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

_IDENTITY = """
import json, os, re
status = dict(line.split(":\\t", 1) for line in open("/proc/1/status").read().splitlines() if ":\\t" in line)
refused = {}
for path in ("/x", "/opt/podlb/x", "/etc/config/x", "/tmp/x"):
    try:
        open(path, "w").close()
    except OSError as error:
        refused[path] = error.errno
print(json.dumps({
    "command": open("/proc/1/cmdline").read().split("\\0")[:-1],
    "status": {key: value.strip() for key, value in status.items()},
    "refused": refused,
}))
"""
_READ_ONLY = 30


def service_address(cluster: Cluster, name: str = "lb", namespace: str = "podlb") -> str:
    return str(cluster.get("service", name, "--namespace", namespace)["spec"]["clusterIP"])


def ask(address: str, port: int, path: str = "/", *, seconds: float = 10) -> tuple[int, Any]:
    """Send one request on a connection of its own; return the status and the body, if that is JSON."""
    connection = http.client.HTTPConnection(address, port, timeout=seconds)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        is_json = response.getheader("Content-Type", "").startswith("application/json")
        return response.status, json.loads(body) if is_json else body
    finally:
        connection.close()


def answering(address: str, count: int = 12) -> set[str]:
    """Send some requests to podlb's Service; return which pods answered. All must be 2xx."""
    answers = [ask(address, 80) for _ in range(count)]
    assert {status for status, _ in answers} == {200}
    return {body["pod"] for _, body in answers}


def names(pods: list[Any]) -> set[str]:
    return {pod["metadata"]["name"] for pod in pods}


def generations(cluster: Cluster) -> dict[str, int]:
    deployments = cluster.get("deployments", "--namespace", "podlb")["items"]
    return {d["metadata"]["name"]: d["metadata"]["generation"] for d in deployments}


# The pods


def test_every_pod_is_ready_and_requests_reach_all_backends(deployed: Cluster) -> None:
    assert len(deployed.pods("lb")) == 2
    assert answering(service_address(deployed)) == names(deployed.pods("backend"))
    assert len(deployed.pods("backend")) == 3


@pytest.mark.parametrize("name", ["lb", "backend"])
def test_a_container_is_unprivileged_on_a_read_only_root(name: str, deployed: Cluster) -> None:
    for pod in sorted(names(deployed.pods(name))):
        found = deployed.python(pod, _IDENTITY)
        assert found["command"] == ["/opt/podlb/bin/python", "-m", name]
        assert found["status"]["Uid"].split() == found["status"]["Gid"].split() == ["65532"] * 4
        assert {found["status"][key] for key in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16}
        assert (found["status"]["NoNewPrivs"], found["status"]["Seccomp"]) == ("1", "2")
        assert found["refused"] == dict.fromkeys(("/x", "/opt/podlb/x", "/etc/config/x", "/tmp/x"), _READ_ONLY)


def test_podlb_keeps_its_snapshot_where_it_may_write(deployed: Cluster) -> None:
    for pod in sorted(names(deployed.pods("lb"))):
        code = "import json; print(json.dumps(open('/var/lib/podlb/snapshot.json').read()))"
        eventually(lambda pod=pod, code=code: deployed.python(pod, code), "the snapshot")  # type: ignore[misc]


def test_a_pod_knows_who_it_is(deployed: Cluster) -> None:
    (backend, *_) = deployed.pods("backend")
    _, body = ask(backend["status"]["podIP"], 8080)
    assert body["pod"] == backend["metadata"]["name"]
    assert body["namespace"] == "podlb"
    assert body["node"] == backend["spec"]["nodeName"]


# The script


def test_a_second_deploy_has_nothing_to_do(deployed: Cluster) -> None:
    before = generations(deployed)
    output = deployed.script("deploy", seconds=60)
    assert output.count("runs already") == 2
    assert "building" not in output
    assert "loading" not in output
    assert generations(deployed) == before


def test_status_logs_and_load(deployed: Cluster) -> None:
    assert names(deployed.pods("lb")) | names(deployed.pods("backend")) <= set(
        deployed.script("status").replace("/", " ").split()
    )
    logs = deployed.script("logs", "--tail=200")
    for name in ("lb", "backend"):
        for pod in names(deployed.pods(name)):
            assert f"[pod/{pod}/{name}] [{name}] " in logs
    assert "scale" in deployed.script("drill", "--list")
    counted = deployed.script("load", "60")
    assert "60 requests to http://" in counted
    assert all(pod in counted for pod in names(deployed.pods("backend")))


def run_local(cluster: Cluster) -> str:
    """Run podlb on this machine by the script until it has answered; return what it said. All backends must answer."""
    port, admin_port = free_port(), free_port()
    command = [str(SCRIPT), "local", f"--port={port}", "--host=127.0.0.1", f"--admin-port={admin_port}"]
    process = subprocess.Popen(command, env=cluster.environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    seen = []
    try:
        for line in process.stdout:
            seen.append(line)
            if f"listening on 127.0.0.1:{port}" in line:
                break
        else:
            pytest.fail("".join(seen))
        assert {ask("127.0.0.1", port)[1]["pod"] for _ in range(12)} == names(cluster.pods("backend"))
        process.send_signal(signal.SIGTERM)
        seen.append(process.stdout.read())
        assert process.wait(10) == 0
        return "".join(seen)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        process.stdout.close()


def test_podlb_on_this_machine_follows_the_pods_there(deployed: Cluster) -> None:
    output = run_local(deployed)
    assert "route" not in output
    assert "[INFO] stopped" in output


def routes(pods: str) -> list[str]:
    return [line.strip() for line in run("ip", "route", "show", pods, environment=os.environ).splitlines()]


def test_a_route_to_the_pods_is_added_for_as_long_as_podlb_runs(deployed: Cluster) -> None:
    (node,) = deployed.get("nodes")["items"]
    (address,) = [a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP"]
    pods = deployed.pods("backend")[0]["status"]["podIP"].rpartition(".")[0] + ".0/24"
    (there,) = [route for route in routes(pods) if f"via {address}" in route]
    run("ip", "route", "del", pods, "via", address, environment=os.environ)
    try:
        without = routes(pods)
        if "podCIDR" not in node["spec"]:
            with pytest.raises(CommandFailedError, match=f"the node at {address} names no podCIDR: add a route"):
                deployed.script("local", "--port=0")
            patch = json.dumps({"spec": {"podCIDR": pods, "podCIDRs": [pods]}})
            deployed.kubectl("patch", "node", node["metadata"]["name"], "--patch", patch)
        assert f"ip route add {pods} via {address}\n" in run_local(deployed)
        assert routes(pods) == without
    finally:
        run("ip", "route", "replace", *there.split(), environment=os.environ)


# What may be done, and what is taken


@pytest.mark.parametrize("folder", ["base", *(f"overlays/{name}" for name in OVERLAYS)])
def test_the_api_server_takes_all_of_it_without_a_warning(folder: str, cluster: Cluster) -> None:
    # The namespaces are made for good: what is in them can't be tried without.
    documents = cluster.kubectl("kustomize", str(DEPLOY / folder)).split("\n---\n")
    # What an operator brings this cluster does not know.
    rendered = "\n---\n".join(d for d in documents if not d.startswith(f"apiVersion: {OPERATOR_API}"))
    spaces = "\n---\n".join(d for d in documents if "kind: Namespace" in d)
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename", "-", text=spaces)
    command = [
        cluster.kubectl_path,
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--filename",
        "-",
    ]
    done = subprocess.run(
        command, env=cluster.environment, input=rendered, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("serverside-applied") == rendered.count("\nkind: ") + rendered.startswith("kind: ")


def can(cluster: Cluster, verb: str, resource: str, namespace: str) -> bool:
    # What it says is the answer; its exit code is 1 for a no.
    account = "system:serviceaccount:podlb:lb"
    command = [cluster.kubectl_path, "auth", "can-i", verb, resource, "--as", account, "--namespace", namespace]
    done = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, check=False, timeout=30)
    return {"yes": True, "no": False}[done.stdout.split()[0]]


def test_podlb_may_do_what_it_does_and_nothing_else(deployed: Cluster) -> None:
    slices = "endpointslices.discovery.k8s.io"
    assert can(deployed, "list", slices, "podlb")
    assert can(deployed, "watch", slices, "podlb")
    refused = [
        ("get", slices, "podlb"),
        ("update", slices, "podlb"),
        ("list", slices, "default"),
        ("list", slices, "kube-system"),
        *(
            (verb, resource, "podlb")
            for verb in ("list", "watch", "get")
            for resource in ("pods", "secrets", "endpoints")
        ),
    ]
    assert [one for one in refused if can(deployed, *one)] == []


# The end of a pod


class Follower:
    """`kubectl logs --follow` of a pod: it has all lines when the container has ended."""

    def __init__(self, cluster: Cluster, pod: str) -> None:
        command = [cluster.kubectl_path, "logs", "--namespace", "podlb", "--follow", pod]
        self._process = subprocess.Popen(command, env=cluster.environment, stdout=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines += [line.rstrip("\n") for line in self._process.stdout]

    def wait(self, seconds: float) -> str:
        """Return all lines, the container's last included."""
        try:
            self._process.wait(seconds)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join()
            assert self._process.stdout is not None
            self._process.stdout.close()
        return "\n".join(self.lines)


@pytest.mark.parametrize("name", ["lb", "backend"])
def test_a_pod_that_is_deleted_finishes_what_it_has_and_ends_by_itself(name: str, deployed: Cluster) -> None:
    victim = deployed.pods(name)[0]
    address, pod = victim["status"]["podIP"], victim["metadata"]["name"]
    follower = Follower(deployed, pod)
    answers: list[tuple[int, Any]] = []
    # Longer than drainDelay: it is in flight when the pod accepts no more.
    seconds = {"lb": 14, "backend": 8}[name]
    request = threading.Thread(target=lambda: answers.append(ask(address, 8080, f"/?delay={seconds}s", seconds=40)))
    request.start()
    if name == "backend":
        eventually(lambda: ask(address, 8080)[0] == 200, "an answer beside it")
    deployed.kubectl("delete", "pod", "--namespace", "podlb", pod, "--wait=false")
    request.join()
    assert [status for status, _ in answers] == [200]
    log = follower.wait(40)
    # Neither was the request cut nor the process killed when its grace period was over.
    assert {"lb": "stopped", "backend": "stopped accepting"}[name] in log.splitlines()[-1]
    assert "cutting" not in log
    deployed.kubectl("rollout", "status", "--namespace", "podlb", f"deployment/{name}", "--timeout=60s")


# Changes


def overlay(folder: Path, base: str, extra: str) -> str:
    """Make a kustomization over one of ours; return its folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    relative = os.path.relpath(DEPLOY / base, folder)
    (folder / "kustomization.yaml").write_text(f"resources: [{relative}]\n{extra}")
    return str(folder)


def test_a_changed_configmap_rolls_its_deployment_out_and_no_other(deployed: Cluster, tmp_path: Path) -> None:
    before = generations(deployed)
    manifests = overlay(
        tmp_path / "changed",
        "base",
        "configMapGenerator:\n  - {name: backend-config, namespace: podlb, behavior: replace, files: [config.json]}\n",
    )
    config = json.loads((DEPLOY / "base/backend/config.json").read_text())
    (tmp_path / "changed/config.json").write_text(json.dumps({**config, "serviceName": "changed"}))
    assert "building" not in deployed.script("deploy", DEPLOY_MANIFESTS=manifests)
    assert generations(deployed) == {**before, "backend": before["backend"] + 1}
    answers = [ask(service_address(deployed), 80) for _ in range(12)]
    assert {(status, body["service"]) for status, body in answers} == {(200, "changed")}
    deployed.script("deploy")


def test_the_seeds_api_with_a_role_for_it_alone(deployed: Cluster) -> None:
    deployed.script("deploy", DEPLOY_MANIFESTS="deploy/overlays/endpoints")
    try:
        assert can(deployed, "list", "endpoints", "podlb")
        assert not can(deployed, "list", "endpointslices.discovery.k8s.io", "podlb")
        assert answering(service_address(deployed)) == names(deployed.pods("backend"))
    finally:
        deployed.script("deploy")


def test_two_namespaces(deployed: Cluster) -> None:
    slices = "endpointslices.discovery.k8s.io"
    here = ("--namespace", "podlb", "--wait=false")
    deployed.kubectl("delete", "deployment/backend", "service/backend-service", "role/lb", "rolebinding/lb", *here)
    try:
        deployed.script("deploy", DEPLOY_MANIFESTS="deploy/overlays/two-namespaces")
        assert can(deployed, "watch", slices, "podlb-backends")
        assert not can(deployed, "watch", slices, "podlb")
        assert deployed.pods("backend") == []
        assert answering(service_address(deployed)) == names(deployed.pods("backend", "podlb-backends"))
    finally:
        deployed.kubectl("delete", "namespace", "podlb-backends", "--wait=false")
        deployed.script("deploy")
