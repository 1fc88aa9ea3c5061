"""The chart of a run: the same file for the same run, every bar in it, and refused early where it can't be drawn."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import chart, cli
from bench.peers import CONTROL, PEERS
from bench.proc import BenchError
from bench.stats import Interval


def row(scenario: str, peer: str, median: float, *, failed: int = 0) -> dict[str, Any]:
    spread = 0.0 if peer == "haproxy" else 0.05
    return {
        "scenario": scenario,
        "peer": peer,
        "ratio": {"median": median, "low": median * (1 - spread), "high": median * (1 + spread)},
        "cpu_us": {"median": 9.87 * median, "low": 9.0, "high": 10.0},
        "cpu_s_per_gb": {"median": 0.4182 * median, "low": 0.4, "high": 0.5},
        "failed": failed,
    }


def run(*rows: dict[str, Any]) -> dict[str, Any]:
    return {
        "date": "2026-11-28",
        "machine": "A processor, 2 cores, Linux 6.1",
        "podlb": "0.1.0",
        "python": "3.11.7",
        "versions": {"haproxy": "HAProxy version 2.6.12-1+deb12u1 2023/12/16", "strange": "no number"},
        "pinning": "balancer on core 0, load and backend on core 1",
        "backend": "nginx/1.22.1",
        "rounds": 11,
        "seconds": 2,
        "summary": list(rows),
    }


CONTROL_ROW = {**row("small", CONTROL.name, 1.0), "ratio": None}
SMALL = [row("small", "haproxy", 1.0), row("small", "nginx", 0.92), row("small", "podlb-epoll", 1.14)]
BULK = [row("bulk", "haproxy", 1.0), row("bulk", "podlb-epoll", 0.78)]


def texts(of: dict[str, Any]) -> list[str]:
    """Return every text of the chart: its figure's, and its panels'."""
    figure = chart._figure(of)
    return [text.get_text() for part in (figure, *figure.axes) for text in part.texts]


def test_a_scenario_with_a_reference_of_its_own_is_drawn_beside_that() -> None:
    floor = row("tcp", "haproxy-tcp", 1.0)
    (tcp,) = chart.groups(run(floor, row("tcp", "podlb-epoll-tcp", 1.5)))
    assert tcp.reference == "9.9 µs of CPU per request"
    assert [bar.peer for bar in tcp.bars] == ["haproxy-tcp", "podlb-epoll-tcp"]
    said = texts(run(floor, row("tcp", "podlb-epoll-tcp", 1.5)))
    # None for the one that all are relative to.
    assert [text for text in said if ".." in text] == ["1.42..1.58"]


def test_each_scenario_is_a_group_of_all_that_have_a_ratio() -> None:
    small, bulk = chart.groups(run(CONTROL_ROW, *SMALL, *BULK))
    assert [bar.peer for bar in small.bars] == ["haproxy", "nginx", "podlb-epoll"]
    assert small.bars[2].ratio == Interval(1.14, 1.14 * 0.95, 1.14 * 1.05)
    assert small.reference == "9.9 µs of CPU per request"
    assert bulk.reference == "0.418 s of CPU per GB"


def test_every_figure_stands_beside_its_bar() -> None:
    found = texts(run(*SMALL, *BULK))
    assert {"small", "bulk", "nginx", "podlb-epoll", "0.92", "1.14", "0.78", "1.08..1.20"} <= set(found)
    assert "1.00 = 9.9 µs of CPU per request" in found
    assert "podlb 0.1.0 on Python 3.11.7, haproxy 2.6.12, strange no number" in found
    assert any(text.startswith("2026-11-28; A processor") for text in found)


def test_two_rounds_have_a_range_and_no_interval() -> None:
    assert any("95 % intervals" in text for text in texts(run(*SMALL)))
    assert any("with their ranges" in text for text in texts({**run(*SMALL), "rounds": 2}))


def test_bars_and_whiskers_are_as_long_as_the_figures() -> None:
    (axes,) = chart._figure(run(*SMALL)).axes
    assert axes.get_xscale() == "linear"
    assert [round(bar.get_x() + bar.get_width(), 2) for bar in axes.patches] == [1.0, 0.92, 1.14]  # type: ignore[attr-defined]
    whiskers = [collection.get_paths()[0].vertices[:, 0] for collection in axes.collections]  # type: ignore[call-overload,index]
    assert [tuple(ends) for ends in whiskers[1:]] == [pytest.approx((0.874, 0.966)), pytest.approx((1.083, 1.197))]
    # The reference's line.
    assert any(list(line.get_xdata()) == [1.0, 1.0] for line in axes.lines)  # type: ignore[arg-type]


def test_slow_ones_do_not_squash_the_others_and_bars_begin_at_the_reference() -> None:
    (axes,) = chart._figure(run(*SMALL, row("small", "podlb-epoll-h11", 9.8))).axes
    assert axes.get_xscale() == "log"
    ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]  # type: ignore[attr-defined]
    assert ends[1:] == [pytest.approx((1.0, 0.92)), pytest.approx((1.0, 1.14)), pytest.approx((1.0, 9.8))]
    left, right = axes.get_xlim()
    assert left < 0.92 * 0.95 < 9.8 * 1.05 < right


def test_a_ratio_of_zero_is_drawn_on_a_plain_scale() -> None:
    zero = chart.Bar("podlb-epoll", Interval(0.0, 0.0, 9.0), has_failed=False)
    assert chart.scale([zero]) == (False, 0.0, pytest.approx(9.45))


def test_who_failed_requests_is_marked() -> None:
    failed = run(*SMALL, row("small", "caddy", 2.0, failed=3))
    assert texts(failed).count("FAILED") == 1
    (axes,) = chart._figure(failed).axes
    assert [bool(bar.get_hatch()) for bar in axes.patches] == [False, False, False, True]


def test_no_two_contenders_in_one_chart_have_the_same_colour() -> None:
    colours = [chart.colour(name) for name in PEERS if name != CONTROL.name]
    assert len(set(colours)) == len(colours)
    assert chart.colour("one of a later version") not in colours


def test_the_same_run_gives_the_same_file_without_a_date_of_drawing(tmp_path: Path) -> None:
    pictures = []
    for name in ("one.svg", "two.svg"):
        chart.draw(run(*SMALL), tmp_path / name)
        pictures.append((tmp_path / name).read_bytes())
    assert pictures[0] == pictures[1]
    assert pictures[0].startswith(b"<?xml")
    assert b"dc:date" not in pictures[0]


def test_the_command_draws_what_json_wrote(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(run(*SMALL)))
    assert chart.main([str(tmp_path / "run.json"), str(tmp_path / "run.svg")]) == 0
    assert (tmp_path / "run.svg").stat().st_size > 1000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "can't be read: No such file"),
        ("no json", "is not what bench/run.py --json writes"),
        ("[]", "it holds no object"),
        ("{}", "is not what bench/run.py --json writes (KeyError('summary'))"),
        (json.dumps(run(CONTROL_ROW)), "nothing to draw"),
        (json.dumps({"summary": SMALL}), "is not what bench/run.py --json writes (KeyError('podlb'))"),
    ],
)
def test_the_command_says_what_is_wrong_with_a_file(
    text: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.json"
    if text is not None:
        file.write_text(text)
    assert chart.main([str(file), str(tmp_path / "run.svg")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run.svg").exists()


def test_a_picture_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="can't be written: No such file or directory"):
        chart.draw(run(*SMALL), tmp_path / "none" / "run.svg")


@pytest.mark.parametrize(
    ("name", "peers", "scenarios", "message"),
    [
        ("run.png", ["haproxy", "podlb-epoll"], ["small"], "does not end with .svg"),
        ("none/run.svg", ["haproxy", "podlb-epoll"], ["small"], "there is no directory"),
        ("run.svg", ["nginx", "podlb-epoll"], ["small"], "relative to that of haproxy"),
        ("run.svg", ["haproxy", "podlb-epoll"], [], "relative to that of haproxy"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    name: str, peers: list[str], scenarios: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BenchError, match=message):
        chart.require(tmp_path / name, peers, scenarios)
    chart.require(tmp_path / "run.svg", ["haproxy", "podlb-epoll"], ["small", "idle"])


def test_without_matplotlib_nothing_is_measured_and_its_install_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(cli, "require_wrk", lambda: None)
    monkeypatch.setattr(cli, "_usable", lambda *_arguments: [PEERS["haproxy"], PEERS["podlb-asyncio"]])
    monkeypatch.setattr(cli.measure, "run", lambda *_arguments: pytest.fail("measured"))
    assert cli.main(["--chart", str(tmp_path / "run.svg"), "--scenarios", "small"]) == 1
    assert "pip install matplotlib" in capsys.readouterr().err


def test_the_run_draws_its_own_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn: list[tuple[dict[str, Any], Path]] = []
    monkeypatch.setattr(cli, "require_wrk", lambda: None)
    monkeypatch.setattr(cli, "_usable", lambda *_arguments: [PEERS["podlb-asyncio"]])
    monkeypatch.setattr(cli.chart, "require", lambda *_arguments: None)
    monkeypatch.setattr(cli.chart, "draw", lambda result, path: drawn.append((result, path)))
    monkeypatch.setattr(cli.measure, "run", lambda *_arguments, **_more: [])
    picture, file = tmp_path / "run.svg", tmp_path / "run.json"
    assert cli.main(["--chart", str(picture), "--json", str(file), "--scenarios", "small"]) == 0
    assert drawn == [(json.loads(file.read_text()), picture)]


def test_the_images_get_no_matplotlib() -> None:
    assert importlib.util.find_spec("matplotlib") is not None
    for lock in (Path(__file__).parents[2] / "deploy").glob("*.lock"):
        assert "matplotlib" not in lock.read_text()
