"""The charts of bench/growth.py: one SVG per series, CPU on the left and memory on the right, a line per contender."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.growth_report import Point, Series, peers_of
from bench.proc import BenchError

_COLOURS = ("#0b5fa5", "#b3541e")
_SIZE_INCHES = (10.0, 4.0)
_TOO_WIDE = 20
"""Values that are so many times apart need a logarithmic axis; others one that begins at 0."""


def require_matplotlib() -> Any:
    """matplotlib, which nothing else here needs. BenchError that says how to install it."""
    try:
        importlib.import_module("matplotlib.figure")
        return importlib.import_module("matplotlib")
    except ImportError as error:
        raise BenchError(f"charts need matplotlib ({error}): pip install -e '.[bench]'") from None


def _panel(axes: Any, series: Series, points: Sequence[Point], what: str, value: Callable[[Point], float]) -> None:
    for peer, colour in zip(peers_of(points), _COLOURS, strict=False):
        its = [point for point in points if point.peer == peer]
        axes.plot([point.size for point in its], [value(point) for point in its], marker="o", label=peer, color=colour)
    # From the smallest size that is not 0 on logarithmic; 0 has its place beside it.
    axes.set_xscale("symlog", linthresh=min(size for size in series.sizes if size))
    values = [value(point) for point in points]
    if min(values) > 0 and max(values) > _TOO_WIDE * min(values):
        axes.set_yscale("log")
    else:
        axes.set_ylim(min(0.0, *values), 1.1 * max(values))
    sizes = list(dict.fromkeys(point.size for point in points))
    axes.set_xticks(sizes, [_short(size) for size in sizes], fontsize="small")
    axes.minorticks_off()
    axes.set_xlabel(series.grows)
    axes.set_ylabel(what)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(frameon=False)


def _short(size: int) -> str:
    for unit, letter in ((2**20, " Mi"), (2**10, " Ki"), (1000, "k")):
        if size >= unit and size % unit == 0:
            return f"{size // unit}{letter}"
    return f"{size:,}"


def draw(series: Series, points: Sequence[Point], directory: Path) -> Path:
    """Write `growth-NAME.svg` into the directory; the same points give the same file."""
    matplotlib = require_matplotlib()
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"growth-{series.name}.svg"
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "podlb"}):
        figure = matplotlib.figure.Figure(figsize=_SIZE_INCHES, layout="constrained")
        left, right = figure.subplots(1, 2)
        figure.suptitle(series.title)
        _panel(left, series, points, series.costs, lambda point: point.cost)
        _panel(right, series, points, "resident memory, MiB", lambda point: point.rss_mib)
        figure.savefig(path, format="svg", metadata={"Date": None})
    return path
