"""What the manifests promise, read from install.yaml; tests/deploy/test_kustomize.py holds that against deploy/base."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

import lb
from backend import config as backend_config
from lb.config import Config
from tests.deploy.files import Document, container, environment, find, installed, of_kind

NAMES = ("lb", "backend")


def pod_of(name: str) -> Document:
    return dict(find(installed(), "Deployment", name)["spec"]["template"]["spec"])


def config_map(name: str) -> Document:
    (found,) = [m for m in of_kind(installed(), "ConfigMap") if m["metadata"]["name"].startswith(f"{name}-config-")]
    return found


def lb_config() -> Config:
    return msgspec.json.decode(config_map("lb")["data"]["config.json"], type=Config)


def test_everything_is_in_the_namespace_podlb_which_takes_restricted_pods_alone() -> None:
    (namespace,) = of_kind(installed(), "Namespace")
    assert namespace["metadata"]["name"] == "podlb"
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {d["metadata"]["namespace"] for d in installed() if d is not namespace} == {"podlb"}
    assert {d["metadata"]["labels"]["app.kubernetes.io/part-of"] for d in installed()} == {"podlb"}


@pytest.mark.parametrize("name", NAMES)
def test_pods_are_restricted_on_a_read_only_root(name: str) -> None:
    pod = pod_of(name)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(find(installed(), "Deployment", name))["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)


@pytest.mark.parametrize("name", NAMES)
def test_a_rollout_takes_none_away_before_another_is_there(name: str) -> None:
    spec = find(installed(), "Deployment", name)["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert spec["replicas"] == {"lb": 2, "backend": 3}[name]
    budget = find(installed(), "PodDisruptionBudget", name)["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("name", NAMES)
def test_pods_are_spread_over_nodes_for_each_rollout(name: str) -> None:
    (constraint,) = pod_of(name)["topologySpreadConstraints"]
    labels = find(installed(), "Deployment", name)["spec"]["template"]["metadata"]["labels"]
    assert constraint["topologyKey"] == "kubernetes.io/hostname"
    assert constraint["labelSelector"]["matchLabels"].items() <= labels.items()
    assert constraint["matchLabelKeys"] == ["pod-template-hash"]


@pytest.mark.parametrize("name", NAMES)
def test_pods_know_who_they_are(name: str) -> None:
    assert environment(find(installed(), "Deployment", name)) == {
        "POD_NAME": "metadata.name",
        "POD_NAMESPACE": "metadata.namespace",
        "POD_IP": "status.podIP",
        "NODE_NAME": "spec.nodeName",
    }
    # Variables of Services would be read as podlb's own.
    assert pod_of(name)["enableServiceLinks"] is False


@pytest.mark.parametrize("name", NAMES)
def test_requests_are_set_and_memory_is_bounded_but_not_cpu(name: str) -> None:
    resources = container(find(installed(), "Deployment", name))["resources"]
    assert set(resources["requests"]) == {"cpu", "memory"}
    assert set(resources["limits"]) == {"memory"}


@pytest.mark.parametrize(("name", "port"), [("lb", "probe"), ("backend", "http")])
def test_the_kubelet_asks_on_a_port_of_the_pods_address(name: str, port: str) -> None:
    asked = container(find(installed(), "Deployment", name))
    assert asked["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": port}
    assert asked["livenessProbe"]["httpGet"] == {"path": "/livez", "port": port}
    # Whoever is slow to answer is taken out of rotation well before it is killed.
    ready, live = (
        (p["periodSeconds"] * p["failureThreshold"]) for p in (asked["readinessProbe"], asked["livenessProbe"])
    )
    assert ready <= 5 < 20 <= live


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_is_a_directory_named_by_the_hash_of_its_content(name: str) -> None:
    (mount,) = [m for m in container(find(installed(), "Deployment", name))["volumeMounts"] if m["name"] == "config"]
    assert mount == {"name": "config", "mountPath": "/etc/config", "readOnly": True}
    (volume,) = [v for v in pod_of(name)["volumes"] if v["name"] == "config"]
    # The Deployment changes with the content, so it rolls out.
    assert volume["configMap"]["name"] == config_map(name)["metadata"]["name"]
    assert set(config_map(name)["data"]) == {"config.json"}


def test_the_load_balancer_takes_its_configuration() -> None:
    config = lb_config()
    ports = {p["name"]: p["containerPort"] for p in container(find(installed(), "Deployment", "lb"))["ports"]}
    assert ports == {"http": config.port, "probe": config.probe_port}
    # In a cluster, discovery follows from there being no backends named.
    assert config.discovery is None
    assert not config.backends
    service = find(installed(), "Service", config.backend_service_name)
    assert {p["port"] for p in service["spec"]["ports"]} == {config.backend_port}
    (state,) = [m for m in container(find(installed(), "Deployment", "lb"))["volumeMounts"] if m["name"] == "state"]
    assert config.snapshot_file == state["mountPath"] + "/snapshot.json"
    (volume,) = [v for v in pod_of("lb")["volumes"] if v["name"] == "state"]
    assert set(volume) == {"name", "emptyDir"}


def test_the_backend_takes_its_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(config_map("backend")["data"]["config.json"])
    config = backend_config.load(file, {})
    assert config.service_name == "backend-service"
    (port,) = container(find(installed(), "Deployment", "backend"))["ports"]
    assert port == {"name": "http", "containerPort": config.port}


def test_there_is_time_for_a_drain_before_a_pod_is_killed() -> None:
    config = lb_config()
    assert config.drain_delay >= 5
    assert pod_of("lb")["terminationGracePeriodSeconds"] >= config.drain_delay + config.drain_timeout + 5
    backend = json.loads(config_map("backend")["data"]["config.json"])
    assert pod_of("backend")["terminationGracePeriodSeconds"] >= backend["drainDelay"] + 20
    # Else its sleep would be taken from the time for the drain.
    assert all("lifecycle" not in container(d) for d in of_kind(installed(), "Deployment"))


def test_podlb_may_list_and_watch_slices_and_nothing_else() -> None:
    assert of_kind(installed(), "ClusterRole") + of_kind(installed(), "ClusterRoleBinding") == []
    (role,) = of_kind(installed(), "Role")
    assert role["rules"] == [
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}
    ]
    (binding,) = of_kind(installed(), "RoleBinding")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "lb", "namespace": "podlb"}]
    assert pod_of("lb")["serviceAccountName"] == find(installed(), "ServiceAccount", "lb")["metadata"]["name"]
    assert pod_of("backend")["automountServiceAccountToken"] is False


def test_services_and_policies_select_the_pods_that_they_are_for() -> None:
    labels = {name: find(installed(), "Deployment", name)["spec"]["template"]["metadata"]["labels"] for name in NAMES}
    assert find(installed(), "Service", "lb")["spec"]["selector"].items() <= labels["lb"].items()
    assert find(installed(), "Service", "backend-service")["spec"]["selector"].items() <= labels["backend"].items()
    for name in NAMES:
        policy = find(installed(), "NetworkPolicy", name)["spec"]
        assert policy["podSelector"]["matchLabels"].items() <= labels[name].items()
        assert policy["policyTypes"] == ["Ingress"]
    (rule,) = find(installed(), "NetworkPolicy", "backend")["spec"]["ingress"]
    (peer,) = rule["from"]
    assert peer["podSelector"]["matchLabels"].items() <= labels["lb"].items()


def test_the_images_are_of_this_version() -> None:
    images = {name: container(find(installed(), "Deployment", name))["image"] for name in NAMES}
    assert images == {name: f"localhost/podlb-{name}:{lb.__version__}" for name in NAMES}
