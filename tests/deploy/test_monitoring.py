"""The overlay `monitoring` by the letter; tests/monitoring/ runs its queries in a real Prometheus."""

from __future__ import annotations

import json
import re

import pytest

from tests.deploy.files import ROOT, container, find, of_kind, rendered
from tests.deploy.monitoring import (
    JOB,
    PROCESS_METRICS,
    Query,
    all_metrics,
    dashboard,
    documented_metrics,
    metrics_in,
    panels,
    queries,
    rules,
)

FOLDER = "overlays/monitoring"

PER_ENDPOINT = (
    "podlb_picks_total",
    "podlb_responses_total",
    "podlb_retries_total",
    "podlb_set_asides_total",
    "podlb_endpoint_seconds_bucket",
    "podlb_upstream_connects_total",
    "podlb_upstream_reuses_total",
    "podlb_upstream_stale_total",
    "podlb_upstream_connect_failures_total",
    "podlb_upstream_resets_total",
)


def expressions() -> list[str]:
    return [rule["expr"] for rule in rules()] + [query.expression for query in queries()]


# The manifests


def test_the_service_monitor_finds_the_probe_port_of_every_pod() -> None:
    documents = rendered(FOLDER)
    monitor = find(documents, "ServiceMonitor", "lb")["spec"]
    selector = monitor["selector"]["matchLabels"].items()
    (service,) = [s for s in of_kind(documents, "Service") if selector <= s["metadata"].get("labels", {}).items()]
    (port,) = service["spec"]["ports"]
    (endpoint,) = monitor["endpoints"]
    deployment = find(documents, "Deployment", "lb")
    (probe,) = [p for p in container(deployment)["ports"] if p["name"] == port["targetPort"]]
    assert (endpoint["port"], endpoint["path"]) == (port["name"], "/metrics")
    assert port["port"] == probe["containerPort"] == 8082
    pod_labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= pod_labels.items()
    # A headless one that names pods which are not ready: Prometheus asks each of them.
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["metadata"]["labels"][monitor["jobLabel"]] == JOB


def test_prometheus_may_reach_the_probe_port() -> None:
    rule = find(rendered(FOLDER), "NetworkPolicy", "lb")["spec"]["ingress"][1]
    assert rule == {"from": [{"namespaceSelector": {}}], "ports": [{"port": 8082}]}


def test_the_dashboard_is_in_a_config_map_that_grafana_looks_for() -> None:
    made = find(rendered(FOLDER), "ConfigMap", "podlb-dashboard")
    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(made["data"]["podlb.json"]) == dashboard()
    # With room for what `kubectl apply` without --server-side writes into an annotation.
    assert len(made["data"]["podlb.json"]) < 100_000


def test_podlb_itself_is_the_same() -> None:
    for kind, name in (("Deployment", "lb"), ("Role", "lb"), ("Service", "lb"), ("NetworkPolicy", "lb")):
        assert find(rendered(FOLDER), kind, name) == find(rendered("base"), kind, name)
    assert len(of_kind(rendered(FOLDER), "Role")) == 1


# The dashboard


def test_every_panel_says_what_it_shows_and_in_which_unit() -> None:
    titles = [panel["title"] for panel in panels()]
    assert len(set(titles)) == len(titles) > 25
    for panel in panels():
        assert panel["title"], panel["id"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGH"[: len(panel["targets"])])
        assert all(target["legendFormat"] for target in panel["targets"]) or panel["type"] == "stat", panel["title"]


def test_every_panel_has_an_id_and_a_place_of_its_own() -> None:
    everything = dashboard()["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in everything):
        columns = range(place["x"], place["x"] + place["w"])
        squares = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert not squares & taken
        assert max(x for x, _ in squares) < 24
        taken |= squares


def test_the_dashboard_has_what_grafana_9_reads() -> None:
    read = dashboard()
    assert read["schemaVersion"] == 36
    assert read["uid"] == "podlb"
    # An id is given by the Grafana that imports it.
    assert "id" not in read
    assert [variable["name"] for variable in read["templating"]["list"]] == ["datasource", "namespace"]
    assert {panel["type"] for panel in read["panels"]} == {"row", "stat", "timeseries"}


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.title)
def test_every_query_uses_the_variables(query: Query) -> None:
    variables = set(re.findall(r"\$(\w+)", query.expression))
    assert {"namespace"} <= variables <= {"namespace", "__rate_interval"}
    # Each metric has a selector with the namespace.
    metrics = re.findall(r"\b(?:podlb|process)_\w+", query.expression)
    assert metrics
    assert len(re.findall(r'\b(?:podlb|process)_\w+\{[^}]*namespace=~"\$namespace"\}', query.expression)) == len(
        metrics
    )


def test_what_the_pages_of_alerts_call_panels_are_panels() -> None:
    titles = {panel["title"] for panel in panels()}
    named = {
        title
        for rule in rules()
        for title in re.findall(r'"([^"]+)"', rule.get("annotations", {}).get("description", ""))
    }
    assert len(named) >= 5
    assert named <= titles
    rows = {panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"}
    page = (ROOT / "docs/monitoring.md").read_text().split("## What to look at")[1]
    assert set(re.findall(r'"([A-Z]\w+)"', page)) == rows - {"Traffic"}


# What is read


def test_every_metric_is_a_documented_one() -> None:
    assert all_metrics() - documented_metrics() - PROCESS_METRICS == set()


def test_every_expression_reads_a_metric_of_podlb() -> None:
    for expression in expressions():
        own = metrics_in(expression) or f'job="{JOB}"' in expression
        assert own or "namespace_endpoint:podlb_" in expression, expression


def test_what_every_program_has_is_asked_of_podlb_alone() -> None:
    for expression in expressions():
        for _, selector in re.findall(r"\b(process_\w+|up)(\{[^}]*\}|)", expression):
            assert f'job="{JOB}"' in selector, expression


@pytest.mark.parametrize("name", PER_ENDPOINT)
def test_endpoints_that_left_are_left_out_of_rates(name: str) -> None:
    for expression in expressions():
        for selector in re.findall(rf"\b{name}\b(\{{[^}}]*\}}|)", expression):
            assert 'endpoint!="gone"' in selector, expression
