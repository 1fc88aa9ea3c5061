"""CORE: figures as short texts for a terminal."""

from __future__ import annotations

_NOTHING = "-"
_SIZES = ("B", "kB", "MB", "GB", "TB")


def seconds(value: float | None) -> str:
    """Return a time of a request: 0.42 ms, 12.3 ms, 1.20 s."""
    if value is None:
        return _NOTHING
    if value < 0.9995:
        return f"{_three(value * 1e3)} ms"
    return f"{_three(value)} s"


def age(value: float) -> str:
    """Return how long something has lasted: 4 s, 12 min, 3 h 05 min, 2 d 4 h."""
    minutes, rest = divmod(int(max(value, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min" if minutes else f"{rest} s"


def share(value: float | None) -> str:
    """Return a share in per cent, which is 0 % or 100 % only if it is nothing or all."""
    if value is None:
        return _NOTHING
    if value in (0.0, 1.0):
        return f"{value:.0%}".replace("%", " %")
    percent = min(max(value * 100, 0.01), 99.99)
    return f"{percent:.2f} %" if percent < 0.1 or percent > 99.9 else f"{percent:.1f} %"


def rate(value: float) -> str:
    """Return a number per second: 0.5, 12, 8,431."""
    return f"{value:.1f}" if 0 < value < 9.95 else f"{value:,.0f}"


def size(value: float) -> str:
    """Return a number of bytes: 312 B, 1.2 kB, 34 MB."""
    for name in _SIZES[:-1]:
        if value < 999.5:
            return f"{_two(value) if name != 'B' else f'{value:.0f}'} {name}"
        value /= 1000
    return f"{_two(value)} {_SIZES[-1]}"


def _three(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _two(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
