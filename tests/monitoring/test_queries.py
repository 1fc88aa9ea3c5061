"""Every query of the dashboard and every rule runs in a real Prometheus that scrapes real podlbs, and finds data."""

from __future__ import annotations

import math
import re

import pytest

from tests.deploy.monitoring import Query, alerts, all_metrics, dashboard, queries, rules
from tests.fakes import eventually
from tests.monitoring.scene import NAMESPACE, Scene

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

# Panels whose data need a key that is off by default.
MAY_BE_EMPTY = {"p99 of the whole exchange, by endpoint"}
MAY_BE_MISSING = {"podlb_endpoint_seconds"}

RULES: dict[str, str] = {rule.get("alert") or rule["record"]: rule["expr"] for rule in rules()}


def substituted(expression: str, namespace: str = ".*") -> str:
    """Put in for the variables what Grafana would."""
    return expression.replace("$namespace", namespace).replace("$__rate_interval", "1m")


def numbers(scene: Scene, expression: str) -> list[float]:
    """Return the values of an expression that are numbers."""
    return [sample.value for sample in scene.prometheus.query(expression) if not math.isnan(sample.value)]


def stat(scene: Scene, title: str) -> float | None:
    """Return the one value of a panel, now."""
    (query,) = [query for query in queries() if query.title == title]
    return scene.prometheus.value(substituted(query.expression))


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.title)
def test_every_query_of_the_dashboard_runs_and_finds_data(query: Query, troubled: Scene) -> None:
    for namespace in (".*", NAMESPACE):
        found = numbers(troubled, substituted(query.expression, namespace))
        assert found or query.title in MAY_BE_EMPTY
    assert numbers(troubled, substituted(query.expression, "another")) == []


@pytest.mark.parametrize("name", RULES)
def test_every_rule_runs(name: str, troubled: Scene) -> None:
    troubled.prometheus.query(RULES[name])


@pytest.mark.parametrize("name", sorted(all_metrics() - MAY_BE_MISSING))
def test_podlb_has_every_metric_that_is_asked_for(name: str, troubled: Scene) -> None:
    assert numbers(troubled, f'count({{__name__=~"{name}(_bucket)?",job="podlb-lb"}})'), f"nothing tells of {name}"


def test_prometheus_loads_every_rule_and_they_are_healthy(troubled: Scene) -> None:
    eventually(lambda: "unknown" not in {rule["health"] for rule in troubled.prometheus.rules()}, "an evaluation")
    loaded = troubled.prometheus.rules()
    assert sorted(rule["name"] for rule in loaded) == sorted(RULES)
    assert {rule["name"]: rule.get("lastError") for rule in loaded if rule["health"] != "ok"} == {}
    assert len([rule for rule in loaded if rule["type"] == "alerting"]) == len(alerts())


def test_the_variable_namespace_finds_its_values(troubled: Scene) -> None:
    _, variable = dashboard()["templating"]["list"]
    found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
    assert found is not None
    assert {sample.labels[found[2]] for sample in troubled.prometheus.query(found[1])} == {NAMESPACE}


# What some of them say


def test_the_pods_are_counted(troubled: Scene) -> None:
    assert stat(troubled, "podlb pods that are scraped") == 3


def test_the_fewest_endpoints_are_those_of_the_pod_that_sees_fewest(troubled: Scene) -> None:
    assert stat(troubled, "Endpoints available, seen by the pod that sees fewest") == 1


def test_a_pod_without_any_endpoint_sees_none(troubled: Scene) -> None:
    there = troubled.following.rotation()
    troubled.apiserver.delete("podlb", "one")
    try:
        troubled.following.wait_for_rotation([])
        troubled.wait_until_scraped()
        assert troubled.prometheus.query('podlb_endpoint_available{pod="lb-3"}') == []
        assert stat(troubled, "Endpoints available, seen by the pod that sees fewest") == 0
        found = troubled.prometheus.query(alerts()["PodlbNoEndpoint"]["expr"])
        assert [sample.labels for sample in found] == [{"namespace": NAMESPACE, "pod": "lb-3"}]
    finally:
        troubled.apiserver.put("podlb", troubled.slice)
        troubled.following.wait_for_rotation(there)
