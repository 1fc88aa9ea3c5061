"""Tables as plain text: named columns of a fixed width, the first to the left, the others to the right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from bench.stats import Interval

RowT = TypeVar("RowT")


class Column(NamedTuple, Generic[RowT]):
    """One column: what stands above it, its width, and how a row's cell is made."""

    heading: str
    width: int
    cell: Callable[[RowT], str]


def median_of(interval: Interval | None, decimals: int) -> str:
    """The median, or a dash where nothing was measured."""
    return "-" if interval is None else f"{interval.median:.{decimals}f}"


def range_of(interval: Interval | None, decimals: int, unit: float = 1) -> str:
    """The 95 % interval in so large units, or a dash where nothing was measured."""
    return "-" if interval is None else f"{interval.low / unit:.{decimals}f}..{interval.high / unit:.{decimals}f}"


def _line(columns: Sequence[Column[RowT]], cells: Iterable[str]) -> str:
    padded = [
        f"{cell:>{column.width}}" if index else f"{cell:<{column.width}}"
        for index, (column, cell) in enumerate(zip(columns, cells, strict=True))
    ]
    return " ".join(padded).rstrip()


def render(title: str, columns: Sequence[Column[RowT]], rows: Iterable[RowT]) -> list[str]:
    """The lines of a table under its title. Cells are kept apart by at least one space."""
    rule = "-" * (sum(column.width + 1 for column in columns) - 1)
    lines = [title, _line(columns, [column.heading for column in columns]), rule]
    return lines + [_line(columns, [column.cell(row) for column in columns]) for row in rows]
