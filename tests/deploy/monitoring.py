"""The overlay `monitoring`, read: its rules, the queries of its dashboard, and the metrics that both name."""

from __future__ import annotations

import functools
import json
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.deploy.files import DEPLOY, ROOT, Document, program

OVERLAY = DEPLOY / "overlays/monitoring"
JOB = "podlb-lb"
"""What the ServiceMonitor makes the label `job` of podlb."""

# What prometheus_client tells of the process itself.
PROCESS_METRICS = frozenset(
    f"process_{name}"
    for name in (
        "cpu_seconds_total",
        "max_fds",
        "open_fds",
        "resident_memory_bytes",
        "start_time_seconds",
        "virtual_memory_bytes",
    )
)


class Query(NamedTuple):
    """A query of the dashboard, and the title of its panel."""

    title: str
    expression: str


def prometheus_program(name: str) -> str:
    """Return where prometheus or promtool is, or skip the test."""
    return program(name, "install Debian's package prometheus")


def promtool(*words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    command = [prometheus_program("promtool"), *words]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)


@functools.cache
def document(name: str) -> Document:
    """Return a manifest of the overlay."""
    return dict(yaml.safe_load((OVERLAY / name).read_text()))


def groups() -> list[Document]:
    """Return the groups of rules, as the operator hands them to Prometheus."""
    return list(document("prometheusrule.yaml")["spec"]["groups"])


def rules() -> list[Document]:
    """Return all rules."""
    return [rule for group in groups() for rule in group["rules"]]


def alerts() -> dict[str, Document]:
    """Return the rules that are alerts, by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def recorded() -> set[str]:
    """Return the names of what the other rules record."""
    return {rule["record"] for rule in rules() if "record" in rule}


def write_rules(folder: Path) -> Path:
    """Write the rules in the form that Prometheus and promtool read."""
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": groups()}))
    return path


@functools.cache
def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    return dict(json.loads((OVERLAY / "dashboard.json").read_text()))


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard that show something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> list[Query]:
    """Return every query of the dashboard, as it is written there."""
    return [Query(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]


def metrics_in(expression: str) -> set[str]:
    """Return the metrics that an expression reads: without what rules record, and histograms without a suffix."""
    text = re.sub(r'"[^"]*"', '""', expression)
    for name in recorded():
        text = text.replace(name, "")
    names = re.findall(r"(?<![\w:])(?:podlb|process)_\w+", text)
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


def all_metrics() -> set[str]:
    """Return the metrics that the rules and the dashboard read."""
    expressions = [rule["expr"] for rule in rules()] + [query.expression for query in queries()]
    return set().union(*map(metrics_in, expressions))


def documented_metrics() -> set[str]:
    """Return the metrics that the pages about them name."""
    pages = [(ROOT / "docs" / page).read_text() for page in ("metrics.md", "kubernetes.md")]
    return {name for page in pages for name in re.findall(r"`(podlb_\w+)", page)}
