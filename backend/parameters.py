"""CORE: the artificial load that a query asks for.

=============  ==========================================================================================
`size=20k`     a body of that many bytes (`k` is 1024, `m` is 1024 k) instead of the usual one; see `filler`
`status=503`   this status, 200 to 599; 204, 205 and 304 have no body whatever else is asked for
`delay=50ms`   waits before the reply (`ms` or `s`)
`cpu=10ms`     burns that much processor time before the reply, after the delay
`chunked=1`    no Content-Length: chunked, or closed at the end for an HTTP/1.0 client
`close=1`      `Connection: close`
`reset=1`      RST instead of a reply; with `size` the RST comes in the middle of the body
`drip=100`     sends the body at that many bytes per second (`k` and `m` as above)
`error=5%`     answers 500 to that share of the requests
=============  ==========================================================================================

They combine. A bad value or one given twice is a `BadValueError` (answered with 400); other names are left alone, since
a load generator may add its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote_plus

MAX_SIZE = 16 * 1024**3
"""The most bytes that `size` and `drip` take: enough to fill any buffer on the way, and a slip is still caught."""
MAX_SECONDS = 86_400.0
"""The longest duration: one day."""

_QUANTITY = re.compile(r"([0-9]{1,12})([km]?)")
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s)")
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)%")
_STATUS = re.compile(r"[2-5][0-9]{2}")
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "ms": 0.001, "s": 1.0}

_FILLER_LINE = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+\n"
_FILLER = _FILLER_LINE * 1024


class BadValueError(ValueError):
    """A value that a client sent is not one we take. The message names it and says what would be."""


class Load(NamedTuple):
    """The load that one request asks for. Durations are seconds, `drip` is bytes per second, `error` a share of 1."""

    size: int | None = None
    status: int = 200
    delay: float = 0.0
    cpu: float = 0.0
    chunked: bool = False
    close: bool = False
    reset: bool = False
    drip: int = 0
    error: float = 0.0


NO_LOAD = Load()


def parse_load(query: str) -> Load:
    """Return what `query` (without its `?`) asks for. Raises `BadValueError` and nothing else."""
    if not query:
        return NO_LOAD
    values: dict[str, float] = {}
    for pair in query.split("&"):
        raw_name, _, raw_value = pair.partition("=")
        name = unquote_plus(raw_name)
        parse = _PARSERS.get(name)
        if parse is None:
            continue
        if name in values:
            raise BadValueError(f"{name}: given twice, expected once")
        try:
            values[name] = parse(unquote_plus(raw_value))
        except BadValueError as error:
            raise BadValueError(f"{name}: {error}") from None
    return Load(**values)  # type: ignore[arg-type]  # each parser returns the type of its field


def filler(offset: int, length: int) -> bytes:
    """Return `length` bytes of the generated body from `offset` on: one 64-byte line, over and over.

    So a reader can tell from any piece whether it is in its right place. `length` is at most 65,472.
    """
    start = offset % len(_FILLER_LINE)
    return _FILLER[start : start + length]


FILLER_LIMIT = len(_FILLER) - len(_FILLER_LINE)
"""The most bytes that `filler` returns at once, wherever it starts."""


def parse_quantity(text: str) -> int:
    """Return a number of bytes, such as `512`, `20k` or `3m`."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise BadValueError(f"expected bytes such as 512, 20k or 3m, got {text!r}")
    quantity = int(match[1]) * int(_UNITS[match[2]])
    if quantity > MAX_SIZE:
        raise BadValueError(f"expected at most {MAX_SIZE // 1024**2}m, got {text!r}")
    return quantity


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as `50ms` or `1.5s`."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise BadValueError(f"expected a duration such as 50ms or 1.5s, got {text!r}")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > MAX_SECONDS:
        raise BadValueError(f"expected at most {MAX_SECONDS:.0f}s, got {text!r}")
    return seconds


def _parse_rate(text: str) -> int:
    rate = parse_quantity(text)
    if rate == 0:
        raise BadValueError("expected at least 1 byte per second, got '0'")
    return rate


def _parse_status(text: str) -> int:
    if _STATUS.fullmatch(text) is None:
        raise BadValueError(f"expected a status from 200 to 599, got {text!r}")
    return int(text)


def _parse_flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise BadValueError(f"expected 1 or 0, got {text!r}")
    return text == "1"


def _parse_percent(text: str) -> float:
    match = _PERCENT.fullmatch(text)
    if match is None or float(match[1]) > 100:
        raise BadValueError(f"expected a share from 0% to 100%, got {text!r}")
    return float(match[1]) / 100


_PARSERS: dict[str, Callable[[str], float]] = {
    "size": parse_quantity,
    "status": _parse_status,
    "delay": parse_duration,
    "cpu": parse_duration,
    "chunked": _parse_flag,
    "close": _parse_flag,
    "reset": _parse_flag,
    "drip": _parse_rate,
    "error": _parse_percent,
}
