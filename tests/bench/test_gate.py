from __future__ import annotations

from pathlib import Path

import pytest

from bench import gate
from bench.gate import BASELINE, GATED_PEER, better_of, gated_ratios, read_baseline, too_slow, verdict, write_baseline
from bench.measure import Sample
from bench.proc import BenchError
from bench.report import Row, summarise


def rows(small: float, browser: float) -> list[Row]:
    def sample(scenario: str, peer: str, cpu_seconds: float) -> Sample:
        return Sample(scenario, peer, 0, 100_000, 2.0, cpu_seconds, 0.6, 1.2, 2**24, 0, 0, 10**7, 0)

    return summarise(
        [
            sample("small", "haproxy", 1.0),
            sample("small", GATED_PEER, small),
            sample("browser", "haproxy", 1.0),
            sample("browser", GATED_PEER, browser),
        ]
    )


def test_the_baseline_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "results" / "baseline.json"
    write_baseline(path, rows(1.3, 1.9), {"rounds": 11})
    assert read_baseline(path) == {"small": pytest.approx(1.3), "browser": pytest.approx(1.9)}


def test_a_missing_baseline_tells_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"is missing.*--write-baseline"):
        read_baseline(tmp_path / "baseline.json")


def test_the_committed_baseline_is_that_of_the_gated_contender() -> None:
    assert read_baseline(BASELINE).keys() == {"small", "browser"}


def test_the_baseline_of_another_contender_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "baseline.json"
    write_baseline(path, rows(1.3, 1.9), {})
    monkeypatch.setattr(gate, "GATED_PEER", "podlb-other")
    with pytest.raises(BenchError, match=rf"baseline of {GATED_PEER}, not of podlb-other.*--write-baseline"):
        read_baseline(path)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", f'{{"peer": "{GATED_PEER}"}}', f'{{"peer": "{GATED_PEER}", "ratios": null}}'),
        f'{{"peer": "{GATED_PEER}", "ratios": {{"small": {{"median": 1.3}}}}}}',
    ],
)
def test_what_is_no_baseline_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(BenchError, match=r"is not a baseline.*--write-baseline"):
        read_baseline(path)


def test_up_to_thirty_percent_pass() -> None:
    baseline = {"small": 1.0, "browser": 2.0}
    assert too_slow({"small": 1.29, "browser": 2.59}, baseline) == []
    assert too_slow({"small": 1.31, "browser": 2.59}, baseline) == ["small"]
    assert too_slow({"small": 1.0, "browser": 2.61}, baseline) == ["browser"]


def test_the_better_of_two_runs_counts() -> None:
    assert better_of({"small": 1.9, "browser": 2.0}, {"small": 1.3}) == {"small": 1.3, "browser": 2.0}
    assert better_of({"small": 1.2}, {"small": 1.3}) == {"small": 1.2}


def test_ratios_come_from_the_gated_contender_alone() -> None:
    assert gated_ratios(rows(1.3, 1.9)) == {"small": pytest.approx(1.3), "browser": pytest.approx(1.9)}


def test_an_unmeasured_scenario_is_an_error_not_a_pass() -> None:
    measured = [row for row in rows(1.3, 1.9) if row.scenario == "small"]
    with pytest.raises(BenchError, match="browser"):
        gated_ratios(measured)
    assert gated_ratios(measured, ["small"]) == {"small": pytest.approx(1.3)}


def test_the_verdict_names_what_is_too_slow() -> None:
    small, browser = verdict({"small": 1.5, "browser": 2.0}, {"small": 1.0, "browser": 2.0}).splitlines()
    assert small.endswith("TOO SLOW")
    assert browser.endswith("passed")
