"""Base and overlays as kustomize makes them: current, valid by the API's schemas, different where they say so."""

from __future__ import annotations

import kubernetes_validate
import pytest

from tests.deploy.files import (
    DEPLOY,
    OPERATOR_API,
    OVERLAYS,
    Document,
    container,
    environment,
    find,
    installed,
    of_kind,
    rendered,
)

FOLDERS = ("base", *(f"overlays/{name}" for name in OVERLAYS))
Identity = tuple[str, str, str]


def identity(document: Document) -> Identity:
    return document["kind"], document["metadata"].get("namespace", ""), document["metadata"]["name"]


def changed(folder: str) -> set[str]:
    """Return which documents of an overlay are not in the base, as `kind/name`."""
    base = {identity(document): document for document in rendered("base")}
    return {
        f"{document['kind']}/{document['metadata']['name']}"
        for document in rendered(folder)
        if base.get(identity(document)) != document
    }


def test_every_overlay_is_tested() -> None:
    assert {path.name for path in (DEPLOY / "overlays").iterdir()} == set(OVERLAYS)


def test_install_yaml_is_what_the_base_renders_to() -> None:
    assert installed() == rendered("base"), "run: make manifests"


@pytest.mark.parametrize("version", ["1.27", "1.35"])
@pytest.mark.parametrize("folder", FOLDERS)
def test_every_document_is_valid(folder: str, version: str) -> None:
    for document in rendered(folder):
        if not document["apiVersion"].startswith(OPERATOR_API):
            assert kubernetes_validate.validate(document, version, strict=True) == version


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_overlay_allows_more_than_reading_endpoints(folder: str) -> None:
    assert not of_kind(rendered(folder), "ClusterRole")
    for role in of_kind(rendered(folder), "Role"):
        for rule in role["rules"]:
            assert rule["verbs"] == ["list", "watch"]
            assert rule["resources"] in (["endpointslices"], ["endpoints"])


def test_on_kind_the_load_balancer_is_on_the_port_that_the_cluster_file_maps() -> None:
    assert changed("overlays/kind") == {"Service/lb", "NetworkPolicy/backend"}
    service = find(rendered("overlays/kind"), "Service", "lb")["spec"]
    assert service["type"] == "NodePort"
    assert f"containerPort: {service['ports'][0]['nodePort']}\n" in (DEPLOY / "kind/cluster.yaml").read_text()
    (rule,) = find(rendered("overlays/kind"), "NetworkPolicy", "backend")["spec"]["ingress"]
    assert rule == {"ports": [{"port": 8080}]}


def test_the_seeds_api_has_a_role_of_its_own() -> None:
    documents = rendered("overlays/endpoints")
    assert changed("overlays/endpoints") == {"Role/lb", "Deployment/lb"}
    assert find(documents, "Role", "lb")["rules"] == [
        {"apiGroups": [""], "resources": ["endpoints"], "verbs": ["list", "watch"]}
    ]
    assert environment(find(documents, "Deployment", "lb"))["PODLB_ENDPOINTS_API"] == "endpoints"


def test_with_two_namespaces_the_role_is_where_the_backends_are() -> None:
    documents = rendered("overlays/two-namespaces")
    where = {f"{kind}/{name}": namespace for kind, namespace, name in map(identity, documents)}
    away = {name for name, namespace in where.items() if namespace == "podlb-backends"}
    map_name = next(name for name in away if name.startswith("ConfigMap/"))
    assert away == {
        "Role/lb",
        "RoleBinding/lb",
        "Deployment/backend",
        "Service/backend-service",
        "PodDisruptionBudget/backend",
        "NetworkPolicy/backend",
        map_name,
    }
    (subject,) = find(documents, "RoleBinding", "lb")["subjects"]
    assert (subject["name"], subject["namespace"]) == ("lb", where["ServiceAccount/lb"]) == ("lb", "podlb")
    assert environment(find(documents, "Deployment", "lb"))["PODLB_NAMESPACE"] == "podlb-backends"
    (config, *_) = find(documents, "Deployment", "backend")["spec"]["template"]["spec"]["volumes"]
    assert f"ConfigMap/{config['configMap']['name']}" == map_name
    (rule,) = find(documents, "NetworkPolicy", "backend")["spec"]["ingress"]
    assert rule["from"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "podlb"}
    for namespace in of_kind(documents, "Namespace"):
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_egress_is_restricted_by_policies_of_its_own() -> None:
    documents = rendered("overlays/egress")
    assert changed("overlays/egress") == {"NetworkPolicy/lb-egress", "NetworkPolicy/backend-egress"}
    assert find(documents, "NetworkPolicy", "backend-egress")["spec"]["policyTypes"] == ["Egress"]
    assert (
        "egress" not in find(documents, "NetworkPolicy", "backend-egress")["spec"]
        or not (find(documents, "NetworkPolicy", "backend-egress")["spec"]["egress"])
    )
    to_backends, to_api = find(documents, "NetworkPolicy", "lb-egress")["spec"]["egress"]
    (port,) = container(find(documents, "Deployment", "backend"))["ports"]
    assert to_backends["ports"] == [{"port": port["containerPort"]}]
    assert {port["port"] for port in to_api["ports"]} == {443, 6443}


def test_monitoring_only_adds() -> None:
    assert changed("overlays/monitoring") == {
        "Service/lb-metrics",
        "ConfigMap/podlb-dashboard",
        "ServiceMonitor/lb",
        "PrometheusRule/podlb",
    }
    assert len(rendered("overlays/monitoring")) == len(rendered("base")) + 4
    for document in rendered("overlays/monitoring"):
        assert document["metadata"].get("namespace", "podlb") == "podlb"
        assert document["metadata"]["labels"]["app.kubernetes.io/part-of"] == "podlb"
