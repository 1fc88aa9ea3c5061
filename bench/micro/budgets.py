"""What the parts of the hot path cost beside what they may cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.table import Column, render

YARDSTICK = "head, small: h11"
YARDSTICK_MEAN = 17.0
"""What this part, which is not ours, cost in microseconds on the machine of the budgets."""
SLOWER = 1.5


class Measured(NamedTuple):
    """One part, measured."""

    part: str
    mean: float
    """Microseconds of CPU time."""
    budget: float | None
    """The same, at most; None: there is none."""

    @property
    def is_over(self) -> bool:
        return self.budget is not None and self.mean > self.budget


_COLUMNS: tuple[Column[Measured], ...] = (
    Column("part", 52, lambda one: one.part),
    Column("CPU µs", 8, lambda one: f"{one.mean:.3f}"),
    Column("budget", 8, lambda one: "-" if one.budget is None else f"{one.budget:g}"),
    Column("", 8, lambda one: "OVER !!!" if one.is_over else ""),
)


def over(measured: Sequence[Measured]) -> list[Measured]:
    """Return the parts that cost more than they may."""
    return [one for one in measured if one.is_over]


def table(measured: Sequence[Measured]) -> str:
    """All parts with their budgets, as plain text, and how many are over."""
    checked = sum(one.budget is not None for one in measured)
    slower = [one.mean / YARDSTICK_MEAN for one in measured if one.part == YARDSTICK]
    note = (
        f"; but this machine is busy, or {slower[0]:.1f} times slower than that of the budgets by h11's own time"
        if slower and slower[0] > SLOWER
        else ""
    )
    title = "the parts of the hot path and their budgets, in microseconds of CPU time"
    total = f"{len(over(measured))} of {checked} over their budget{note}"
    return "\n".join([*render(title, _COLUMNS, measured), total])
