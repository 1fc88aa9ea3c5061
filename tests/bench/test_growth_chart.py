from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.growth import SERIES
from bench.growth_chart import draw, require_matplotlib
from bench.growth_report import Point
from bench.proc import BenchError


def test_without_matplotlib_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BenchError, match=r"charts need matplotlib .*: pip install -e '\.\[bench\]'"):
        require_matplotlib()


@pytest.mark.slow
def test_a_chart_has_both_contenders_and_every_size(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    series = SERIES["body"]
    points = [
        Point("body", peer, size, cost, 30.0, 0, None)
        for peer in ("podlb-epoll", "haproxy")
        for size, cost in ((0, 40.0), (1_024, 50.0), (1_048_576, 400.0))
    ]
    path = draw(series, points, tmp_path / "charts")
    assert path.name == "growth-body.svg"
    text = path.read_text()
    for word in ("podlb-epoll", "haproxy", ">1 Ki<", ">1 Mi<", ">0<", series.title.split(",")[0], "bytes of body"):
        assert word in text
    assert draw(series, points, tmp_path).read_text() == text, "the same points give the same file"
