"""The costs of a run as a picture for a page such as README.md: `--chart FILE.svg` of bench/run.py, or later

    python -m bench.chart RUN.json FILE.svg

with what `bench/run.py --json` wrote. With the same matplotlib the same run gives the same file, to the byte, so that
a chart that is committed changes only when a figure does. The background is white, on dark pages too.

matplotlib is imported when a chart is drawn: nothing else needs it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.load import SCENARIOS
from bench.peers import CONTROL, PEERS, REFERENCE
from bench.proc import BenchError
from bench.stats import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INSTALL = "pip install matplotlib"
SQUASHED = 4.0
"""From this ratio of the longest bar to the shortest the scale is logarithmic."""

_OURS = "podlb"
_OUR_COLOURS = ("#0b57d0", "#4285f4", "#8ab4f8", "#5f8fd9", "#aecbfa", "#1a3f8b", "#3f6ec7", "#7393d0")
_OTHER_COLOURS = ("#5f6368", "#80868b", "#9aa0a6", "#7a9e7e", "#a58bb5", "#7fa8a8", "#b59a7a", "#b58a8a", "#8f8f6a")
_UNKNOWN_COLOUR = "#c4c7c5"
_INK, _PALE_INK, _GRID = "#202124", "#5f6368", "#e3e5e8"
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_VERSION = re.compile(r"\d+\.\d+(?:\.\d+)*")

# In inches; a page shows an inch of an SVG as 72 points, which are 96 pixels.
_PANEL_WIDTH, _BAR, _HEADING, _TOP, _BOTTOM = 5.6, 0.235, 0.85, 0.8, 0.3
_CAPTION_LINE, _LABELS, _VALUES = 0.17, 1.35, 1.35
_CAPTION_COLUMNS = 88
"""How many characters of the caption stand below one panel, about."""


class Bar(NamedTuple):
    """One contender in one scenario."""

    peer: str
    ratio: Interval
    """Its cost relative to the reference's."""
    has_failed: bool
    """Did it fail a request? Then its cost is no figure to compare."""


class Group(NamedTuple):
    """One scenario: its bars, in the order of the table, and what the reference cost."""

    scenario: str
    bars: list[Bar]
    reference: str


def groups(run: Mapping[str, Any]) -> list[Group]:
    """Return the scenarios of a run, as `--json` writes it, that have a ratio. BenchError if there is none."""
    found: dict[str, Group] = {}
    try:
        for row in run["summary"]:
            if row["ratio"] is None:
                continue
            group = found.setdefault(row["scenario"], Group(row["scenario"], [], _reference_cost(run, row["scenario"])))
            group.bars.append(Bar(row["peer"], Interval(**row["ratio"]), bool(row["failed"])))
    except (KeyError, TypeError) as error:
        raise BenchError(f"this is not what bench/run.py --json writes ({error!r})") from None
    if not found:
        raise BenchError(f"there is nothing to draw: the run has no cost relative to that of {REFERENCE}")
    return list(found.values())


def reference_of(scenario: str) -> str:
    """Return the contender whose cost is 1.00 in a scenario."""
    return SCENARIOS[scenario].reference if scenario in SCENARIOS else REFERENCE


def _reference_cost(run: Mapping[str, Any], scenario: str) -> str:
    for row in run["summary"]:
        if row["scenario"] == scenario and row["peer"] == reference_of(scenario):
            if scenario in SCENARIOS and SCENARIOS[scenario].is_by_byte:
                return f"{row['cpu_s_per_gb']['median']:.3f} s of CPU per GB"
            return f"{row['cpu_us']['median']:.1f} µs of CPU per request"
    raise KeyError(reference_of(scenario))


def require(path: Path, peers: Iterable[str], scenarios: Iterable[str]) -> None:
    """BenchError if a run of these contenders could not be drawn, so that it is known before anything is measured."""
    if path.suffix != ".svg":
        raise BenchError(f"a chart is an SVG file; {path} does not end with .svg")
    if not path.parent.is_dir():
        raise BenchError(f"{path} can't be written: there is no directory {path.parent}")
    _require_matplotlib()
    others = set(peers) - {CONTROL.name}
    if REFERENCE not in others or not set(scenarios) & set(SCENARIOS):
        raise BenchError(
            f"a chart shows costs relative to that of {REFERENCE}: it must be installed, among --peers, and measured "
            f"in one of the scenarios {', '.join(SCENARIOS)}"
        )


def _require_matplotlib() -> None:
    try:
        import matplotlib.figure  # noqa: F401 - is it there?
    except ImportError as error:
        raise BenchError(f"a chart is drawn with matplotlib, which can't be imported ({error}): {INSTALL}") from None


def colour(peer: str) -> str:
    """Return the colour of a contender: the same one in every chart, strong for podlb and pale for the others."""
    ours, others = ([name for name in PEERS if name.startswith(_OURS) == is_ours] for is_ours in (True, False))
    if peer in ours:
        return _OUR_COLOURS[ours.index(peer) % len(_OUR_COLOURS)]
    # The control has no bar: the reference takes the first colour.
    others.remove(CONTROL.name)
    return _OTHER_COLOURS[others.index(peer) % len(_OTHER_COLOURS)] if peer in others else _UNKNOWN_COLOUR


def caption(run: Mapping[str, Any], columns: int) -> list[str]:
    """Return the lines that say on what, with what and when it was measured."""
    try:
        versions = [f"podlb {run['podlb']} on Python {run['python']}"]
        for program, line in run["versions"].items():
            number = _VERSION.search(line)
            versions.append(f"{program} {number[0] if number else line}")
        text = [
            f"{run['date']}; {run['machine']}",
            ", ".join(versions),
            f"{run['rounds']} rounds of {run['seconds']} s, all contenders in alternation; {run['pinning']}; "
            f"backend: {run['backend']}",
        ]
    except (KeyError, AttributeError) as error:
        raise BenchError(f"this is not what bench/run.py --json writes ({error!r})") from None
    return [piece for line in text for piece in textwrap.wrap(line, columns)]


def scale(bars: Sequence[Bar]) -> tuple[bool, float, float]:
    """Return whether the scale is logarithmic, and its ends. 1.0 is always on it."""
    lowest = min(1.0, *(bar.ratio.low for bar in bars))
    highest = max(1.0, *(bar.ratio.high for bar in bars))
    # (A share of the clock's ticks can be 0, and a logarithm of it there is none.)
    if highest / max(lowest, 1e-9) > SQUASHED and lowest > 0:
        return True, lowest / 1.15, highest * 1.15
    return False, 0.0, highest * 1.05


def _draw_panel(axes: Axes, group: Group, rows: int, ends: tuple[bool, float, float]) -> None:
    """One scenario. On a logarithmic scale, which has no 0, bars begin at 1.0; those to its left cost less."""
    is_logarithmic, left, right = ends
    if is_logarithmic:
        axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(rows - 0.4, -0.6)
    base = 1.0 if is_logarithmic else 0.0
    for place, bar in enumerate(group.bars):
        low, middle, high = bar.ratio.low, bar.ratio.median, bar.ratio.high
        is_ours = bar.peer.startswith(_OURS)
        axes.barh(
            *(place, middle - base),
            height=0.68,
            left=base,
            color=colour(bar.peer),
            hatch="////" if bar.has_failed else None,
            edgecolor="white" if bar.has_failed else "none",
            linewidth=0,
            zorder=2,
        )
        axes.errorbar(
            *(middle, place),
            xerr=[[middle - low], [high - middle]],
            color=_INK,
            elinewidth=0.9,
            capsize=2.2,
            capthick=0.9,
            zorder=4,
        )
        weight = "bold" if is_ours else "normal"
        margin = axes.get_yaxis_transform()
        axes.text(-0.02, place, bar.peer, transform=margin, ha="right", va="center", weight=weight)
        axes.text(1.19, place, f"{middle:.2f}", transform=margin, ha="right", va="center", weight=weight)
        interval = "" if bar.peer == reference_of(group.scenario) else f"{low:.2f}..{high:.2f}"
        said = "FAILED" if bar.has_failed else interval
        axes.text(1.22, place, said, transform=margin, ha="left", va="center", size=7, color=_PALE_INK)
    axes.axvline(1.0, color=_INK, linewidth=1.1, zorder=3)
    marks = [tick for tick in _TICKS if left <= tick <= right]
    if is_logarithmic:
        axes.set_xticks(marks, [f"{tick:g}" for tick in marks])
    axes.minorticks_off()
    axes.set_yticks([])
    axes.tick_params(axis="x", length=0, labelcolor=_PALE_INK)
    axes.grid(axis="x", color=_GRID, linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    for side in ("top", "left", "right", "bottom"):
        axes.spines[side].set_visible(False)
    title = SCENARIOS[group.scenario].title if group.scenario in SCENARIOS else ""
    above = axes.transAxes
    inch = 1 / (axes.bbox.height / axes.figure.dpi)
    start = -_LABELS / (axes.bbox.width / axes.figure.dpi)
    axes.text(start, 1 + 0.34 * inch, group.scenario, transform=above, size=10, weight="bold")
    axes.text(start, 1 + 0.2 * inch, title, transform=above, size=7.5, color=_PALE_INK)
    axes.text(start, 1 + 0.06 * inch, f"1.00 = {group.reference}", transform=above, size=7.5, color=_PALE_INK)


def _figure(run: Mapping[str, Any]) -> Figure:
    from matplotlib.figure import Figure

    drawn = groups(run)
    across = 1 if len(drawn) == 1 else 2
    lines = [drawn[at : at + across] for at in range(0, len(drawn), across)]
    rows = [max(len(group.bars) for group in line) for line in lines]
    below = caption(run, _CAPTION_COLUMNS * across)
    width = across * _PANEL_WIDTH
    height = _TOP + sum(_HEADING + count * _BAR for count in rows) + _BOTTOM + len(below) * _CAPTION_LINE + 0.15
    ends = scale([bar for group in drawn for bar in group.bars])

    figure = Figure(figsize=(width, height), facecolor="white")
    figure.text(
        *(0.2 / width, 1 - 0.32 / height), "CPU time relative to HAProxy's: less is better", size=13, weight="bold"
    )
    figure.text(
        *(0.2 / width, 1 - 0.56 / height),
        f"Medians of the rounds with {'95 % intervals' if run['rounds'] >= 3 else 'their ranges'}; the line is HAProxy"
        f"{'; logarithmic scale' if ends[0] else ''}",
        color=_PALE_INK,
    )
    top = height - _TOP
    for line, count in zip(lines, rows, strict=True):
        top -= _HEADING + count * _BAR
        for column, group in enumerate(line):
            box = (
                (column * _PANEL_WIDTH + _LABELS + 0.2) / width,
                (top + 0.25) / height,
                (_PANEL_WIDTH - _LABELS - _VALUES - 0.2) / width,
                count * _BAR / height,
            )
            _draw_panel(figure.add_axes(box), group, count, ends)
    for place, text in enumerate(reversed(below)):
        figure.text(0.2 / width, (0.2 + place * _CAPTION_LINE) / height, text, size=7, color=_PALE_INK)
    return figure


def draw(run: Mapping[str, Any], path: Path) -> None:
    """Draw a run, as `--json` writes it. BenchError if it can't be."""
    _require_matplotlib()
    from matplotlib import style

    # What the user's matplotlibrc says must not matter; text as outlines looks the same without our fonts.
    settings = {"svg.hashsalt": "podlb", "svg.fonttype": "path", "font.size": 8.5, "text.color": _INK}
    with style.context(["default", settings]):
        try:
            _figure(run).savefig(path, format="svg", metadata={"Date": None})
        except OSError as error:
            raise BenchError(f"{path} can't be written: {error.strerror}") from None


def read(path: Path) -> dict[str, Any]:
    """Read the file that `--json` wrote. BenchError if it is not one."""
    try:
        run = json.loads(path.read_text())
    except OSError as error:
        raise BenchError(f"{path} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise BenchError(f"{path} is not what bench/run.py --json writes ({error})") from None
    if not isinstance(run, dict):
        raise BenchError(f"{path} is not what bench/run.py --json writes (it holds no object)")
    return run


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the chart of a run that is over; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.chart", description="Draw a run of bench/run.py --json.")
    parser.add_argument("run", type=Path, metavar="RUN.json")
    parser.add_argument("chart", type=Path, metavar="FILE.svg")
    arguments = parser.parse_args(argv)
    try:
        draw(read(arguments.run), arguments.chart)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
