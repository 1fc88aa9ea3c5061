"""The alerts by promtool: each fires when it should and is silent when it should, by the cases in alerts/."""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from lb.histogram import COARSE
from tests.deploy.files import ROOT
from tests.deploy.monitoring import alerts, groups, promtool, rules, write_rules

FOLDER = Path(__file__).parent / "alerts"
FILES = sorted(FOLDER.glob("*.yaml"))

# Ends for which neither podlb nor an endpoint is to blame, or which may be anybody's fault.
NOT_A_FAULT = {"ok", "client_gone", "request_timeout", "bad_request", "body_timeout", "tunnel_idle"}


def cases() -> list[dict[str, Any]]:
    """Return every look at an alert in the cases."""
    files = [yaml.safe_load(path.read_text()) for path in FILES]
    return [look for file in files for test in file["tests"] for look in test["alert_rule_test"]]


def expected() -> list[tuple[str, dict[str, str]]]:
    """Return every alert that is expected to fire, with its labels."""
    return [(look["alertname"], alert["exp_labels"]) for look in cases() for alert in look["exp_alerts"]]


def with_summaries_alone() -> list[dict[str, Any]]:
    """Return the rules without descriptions: promtool compares annotations whole, and the cases are no prose."""
    shortened = copy.deepcopy(groups())
    for group in shortened:
        for rule in group["rules"]:
            rule.get("annotations", {}).pop("description", None)
    return shortened


def test_the_rules_are_valid(tmp_path: Path) -> None:
    done = promtool("check", "rules", str(write_rules(tmp_path)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(rules())} rules found" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("file", FILES, ids=[path.stem for path in FILES])
def test_alerts_fire_when_they_should_and_no_others(file: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": with_summaries_alone()}))
    shutil.copy(file, tmp_path)
    done = promtool("test", "rules", str(tmp_path / file.name))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    fires = {look["alertname"] for look in cases() if look["exp_alerts"]}
    silent = {look["alertname"] for look in cases() if not look["exp_alerts"]}
    assert fires == set(alerts())
    assert silent == set(alerts())


def test_every_label_that_an_annotation_names_is_there() -> None:
    for name, labels in expected():
        text = " ".join(alerts()[name]["annotations"].values())
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= set(labels), name


def test_every_alert_says_what_it_is_and_how_bad() -> None:
    assert len(alerts()) == len([rule for rule in rules() if "alert" in rule])
    for name, rule in alerts().items():
        assert name.startswith("Podlb")
        assert set(rule["annotations"]) == {"summary", "description"}, name
        assert rule["labels"].keys() == {"severity"}, name
        assert rule["labels"]["severity"] in ("warning", "critical"), name
        assert "\n" not in rule["annotations"]["description"], name


def test_every_alert_is_in_the_documentation_and_no_other() -> None:
    page = (ROOT / "docs/monitoring.md").read_text()
    rows = re.findall(r"^\| `(Podlb\w+)`, (\w+) \|", page, re.M)
    assert dict(rows) == {name: rule["labels"]["severity"] for name, rule in alerts().items()}
    assert len(rows) == len(alerts())


def test_each_end_reason_is_either_a_fault_or_not() -> None:
    page = (ROOT / "docs/end-reasons.md").read_text()
    reasons = set(re.findall(r"^\| `(\w+)` \|", page, re.M))
    assert len(reasons) > 15
    (pattern,) = re.findall(r'reason=~"([^"]+)"', alerts()["PodlbExchangesFail"]["expr"])
    # Prometheus matches the whole of a label.
    assert {reason for reason in reasons if not re.fullmatch(pattern, reason)} == NOT_A_FAULT
    assert re.fullmatch(pattern, "bad_response:status")
    assert not re.fullmatch(pattern, "bad_request:host")


def test_the_threshold_of_the_overhead_is_a_bound_of_the_histogram() -> None:
    # Between two bounds Prometheus can only guess.
    threshold = alerts()["PodlbOverheadHigh"]["expr"].rpartition(">")[2]
    assert float(threshold) in COARSE
