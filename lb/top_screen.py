"""SHELL: a view on the terminal, drawn by rich, which is imported here alone.

Colours repeat what words say, so that nothing is lost without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lb import top_text as text
from lb.top import Row, View, worst_first

_MAX_EVENTS = 8
_LEVEL_COLOURS = {"WARN": "yellow", "ERROR": "red"}
_STATE_COLOURS = {"available": "green", "set aside": "red", "on trial": "yellow", "not ready": "yellow"}
_LONGEST_STATE = 46
_LONGEST_NAME = 40


class Column(NamedTuple):
    """A column of the table of endpoints."""

    title: str
    rank: int
    """When there is no room for all, those of the highest rank go first."""
    cell: Callable[[Row], str]
    usual: int
    """The width that its cells usually need: so columns stay where they are from frame to frame."""
    narrowest: int = 0
    """It may be cut down to so many characters; 0: it may not, and its cells are numbers."""
    may_be_empty: bool = False
    """Is it left out if nothing stands in it?"""


COLUMNS = (
    Column("endpoint", 0, lambda row: row.endpoint, 0, 21),
    Column("state", 0, lambda row: state_of(row), 40, 32),
    Column("share/due", 5, lambda row: f"{_percent(row.share)}/{_percent(row.expected_share)}", 9),
    Column("req/s", 1, lambda row: text.rate(row.rate), 6),
    Column("success", 1, lambda row: text.share(row.success), 7),
    Column("p50", 6, lambda row: text.seconds(row.p50) if row.is_timed else "", 7, may_be_empty=True),
    Column("p99", 2, lambda row: text.seconds(row.p99) if row.is_timed else "", 7, may_be_empty=True),
    Column("active", 3, lambda row: f"{row.in_flight:,}", 6),
    Column("reuse", 7, lambda row: _percent(row.reuse), 5),
    Column("weight", 10, lambda row: str(row.weight), 6),
    Column("pod", 4, lambda row: pod_of(row), 0, 12, may_be_empty=True),
    Column("node", 8, lambda row: row.node, 0, 8, may_be_empty=True),
    Column("zone", 9, lambda row: row.zone, 0, 6, may_be_empty=True),
)


def state_of(row: Row) -> str:
    """Return the state of an endpoint with its reason and since when."""
    found = f"{row.state} {text.age(row.since)}"
    if row.reason:
        found += f": {row.reason}"
    return f"{found}, {row.seconds_left:.0f} s left" if row.seconds_left >= 0.5 else found


def pod_of(row: Row) -> str:
    """Return the name of the endpoint, if it is more than its address."""
    return "" if row.endpoint.startswith(f"{row.pod}:") else row.pod


def _percent(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 100:.1f}%" if 0.0 < value < 0.01 else f"{value * 100:.0f}%"


def choose_columns(rows: Sequence[Row], width: int) -> list[tuple[Column, int]]:
    """Return the columns that fit into `width` characters, in order, each with its width.

    A column in which nothing stands may be left out. What may be cut is cut only when those of the lowest rank need it.
    """
    chosen = []
    for column in COLUMNS:
        cells = [column.cell(row) for row in rows]
        if any(cells) or not column.may_be_empty:
            longest = _LONGEST_STATE if column.title == "state" else _LONGEST_NAME
            wanted = min(max(column.usual, *map(len, (column.title, *cells))), longest)
            chosen.append((column, wanted))
    # What a column takes at least, and a space between two.
    needed = [min(wanted, column.narrowest or wanted) for column, wanted in chosen]
    while sum(needed) + 2 * (len(needed) - 1) > width and any(column.rank for column, _ in chosen):
        gone = max(range(len(chosen)), key=lambda at: chosen[at][0].rank)
        del chosen[gone], needed[gone]
    room = width - sum(needed) - 2 * (len(needed) - 1)
    found = []
    for (column, wanted), least in zip(chosen, needed, strict=True):
        more = min(max(room, 0), wanted - least)
        room -= more
        found.append((column, least + more))
    return found


def frame(view: View | None, *, admin: str, error: str, width: int, height: int | None) -> RenderableType:
    """Return one picture of `view`. `error` says why there is no newer one; `height` is None where there is no end."""
    parts: list[RenderableType] = []
    if error:
        parts.append(_cut(Text(f"{admin} can't be asked: {error}", style="bold red"), width))
        parts.append(Text("trying again" if view is None else "trying again; these are the last figures:"))
    if view is None:
        return Group(*parts)
    parts += [_cut(line, width) for line in _head(view, admin)]
    events = view.events[-_MAX_EVENTS:]
    rows: Sequence[Row] = view.rows
    hidden = 0
    if height is not None:
        # Lines beside those of endpoints: the head, a blank, the titles; a blank and the events.
        shown = max(min(len(events), (height - len(parts) - 3) // 3), 0)
        events = events[len(events) - shown :]
        room = max(height - len(parts) - 2 - (len(events) + 1 if events else 0), 1)
        if len(rows) > room:
            hidden = len(rows) - max(room - 1, 1)
            rows = worst_first(rows)[: len(rows) - hidden]
    parts += [Text(""), _table(rows, width)]
    if hidden:
        parts.append(Text(f"and {hidden} more", style="dim"))
    if events:
        parts.append(Text(""))
        parts += [_cut(_event(one.time, one.level, one.component, one.message), width) for one in events]
    return Group(*parts)


def _head(view: View, admin: str) -> list[Text]:
    period = "since the start" if view.is_first else f"in the last {view.seconds:.1f} s"
    title = Text.assemble(
        ("podlb", "bold"),
        f" {view.version} at {admin}, up {text.age(view.uptime)}; {period}:",
        ("  PANIC: no endpoint is ready" if view.is_panicking else "", "bold red"),
    )
    first = _figures(
        ("requests/s", text.rate(view.rate)),
        ("success", text.share(view.success)),
        ("in flight", f"{view.in_flight:,}"),
        ("waiting", f"{view.waiting:,}"),
        ("retries/s", text.rate(view.retries)),
    )
    second = _figures(
        ("p50", text.seconds(view.p50)),
        ("p95", text.seconds(view.p95)),
        ("p99", text.seconds(view.p99)),
        ("podlb's own p99", text.seconds(view.overhead_p99)),
    )
    third = _figures(
        ("connections", f"{view.connections:,}"),
        ("in/s", text.size(view.received)),
        ("out/s", text.size(view.sent)),
        ("failed", ", ".join(f"{word} {count:,}" for word, count in view.failures) or "none"),
    )
    return [title, first, second, third]


def _figures(*pairs: tuple[str, str]) -> Text:
    line = Text()
    for name, value in pairs:
        line.append(f"{name} ", style="dim").append(value, style="bold").append("   ")
    line.rstrip()
    return line


def _table(rows: Sequence[Row], width: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False, header_style="dim")
    columns = choose_columns(rows, width)
    for column, wide in columns:
        side: Literal["left", "right"] = "left" if column.narrowest else "right"
        table.add_column(column.title, justify=side, no_wrap=True, overflow="ellipsis", width=wide)
    for row in rows:
        table.add_row(*(_cell(column, row, wide) for column, wide in columns))
    return table


def _cell(column: Column, row: Row, width: int) -> Text:
    cell = column.cell(row)
    if column.title == "state":
        return Text(cell, style=_STATE_COLOURS.get(row.state, ""))
    # The names of pods differ at their ends.
    return Text(cell if len(cell) <= width else f"…{cell[len(cell) - width + 1 :]}")


def _event(time: str, level: str, component: str, message: str) -> Text:
    at = time.partition("T")[2].partition(".")[0] or time
    return Text.assemble(f"{at} ", (level, _LEVEL_COLOURS.get(level, "")), f" {component}: {message}")


def _cut(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    line.no_wrap = True
    return line


class Screen:
    """The terminal while `podlb top` runs: another screen, and afterwards everything as it was.

    Where stdout is no terminal, or one that can't move its cursor, frames follow one another as plain text, as wide as
    `COLUMNS` says.
    """

    def __init__(self, *, whole: bool, width: int | None = None) -> None:
        """`whole`: take the whole screen, if there is one. `width` is for what is no terminal."""
        self._console = Console(highlight=False, width=width)
        is_whole = whole and self._console.is_terminal and not self._console.is_dumb_terminal
        self._live = Live(console=self._console, screen=True, auto_refresh=False) if is_whole else None

    def __enter__(self) -> Screen:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, view: View | None, *, admin: str, error: str) -> None:
        """Draw one frame."""
        width, height = self._console.size
        if self._live is not None:
            self._live.update(frame(view, admin=admin, error=error, width=width, height=height), refresh=True)
        else:
            with self._console.capture() as captured:
                self._console.print(frame(view, admin=admin, error=error, width=width, height=None))
            lines = captured.get().splitlines()
            self._console.file.write("".join(f"{line.rstrip()}\n" for line in lines))
            self._console.file.flush()
