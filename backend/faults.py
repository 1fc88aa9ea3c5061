"""CORE: the fault that this process was ordered to have.

One fault at most, in one of two states:

    ======  ============================  =====================  ====================
    state   order (`POST /fault`)         clear (`DELETE`)       time `for` is over
    ======  ============================  =====================  ====================
    none    → active                      → none                 none
    active  → active, the new one         → none                 → none
    ======  ============================  =====================  ====================

An order is JSON: `{"mode": "hang", "for": "30s", "share": 0.5, "probes": true}`.

- `mode`: `exit` ends the process by `os._exit`; `hang` leaves requests unanswered until the fault is over; `reset`
  answers them with an RST; `fast503` with 503 at once; `slow` only after `delay` (default `2s`).
- `for`: how long it lasts; without it, until it is cleared. A request that hangs is in flight: it keeps a process that
  drains from ending.
- `share`: the share of requests that it hits, 0 to 1 (default 1). A certain `exit` happens as soon as the order is
  answered; with a smaller share it happens at the first request that is hit, which stays unanswered.
- `probes`: whether `/livez` and `/readyz` are hit as well. `hang`, `slow` and `exit` spare them by default, so that
  the process looks healthy; `reset` and `fast503` don't.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from backend.parameters import BadValueError, parse_duration

MODES = ("exit", "hang", "reset", "fast503", "slow")
_HITS_PROBES_BY_DEFAULT = ("reset", "fast503")
_KEYS = ("mode", "for", "share", "probes", "delay")
_DEFAULT_DELAY = "2s"


@dataclass(slots=True)
class Fault:
    """A fault in force. `until` is an instant on the clock of the caller, or None; `delay` is seconds."""

    mode: str
    share: float
    probes: bool
    delay: float
    until: float | None
    hits: int = 0

    def is_over(self, now: float) -> bool:
        """Whether its time is over."""
        return self.until is not None and now >= self.until


class Faults:
    """The fault of this process, if any. `random` returns a number from 0 up to but not including 1."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._fault: Fault | None = None

    def order(self, body: bytes, now: float) -> Fault:
        """Put the fault that `body` describes in force. Raises `BadValueError`, which leaves the old one in force."""
        self._fault = _parse_order(body, now)
        return self._fault

    def clear(self) -> None:
        """End the fault, if there is one."""
        self._fault = None

    def active(self, now: float) -> Fault | None:
        """Return the fault in force."""
        if self._fault is not None and self._fault.is_over(now):
            self._fault = None
        return self._fault

    def hit(self, now: float, *, is_probe: bool) -> Fault | None:
        """Return the fault if it hits this request, and count the hit."""
        fault = self.active(now)
        if fault is None or (is_probe and not fault.probes) or self._random() >= fault.share:
            return None
        fault.hits += 1
        return fault

    def describe(self, now: float) -> dict[str, object]:
        """Return the fault in force as JSON data; `remaining` is seconds, or None: until it is cleared."""
        fault = self.active(now)
        if fault is None:
            return {"mode": None}
        return {
            "mode": fault.mode,
            "remaining": None if fault.until is None else round(fault.until - now, 3),
            "share": fault.share,
            "probes": fault.probes,
            "hits": fault.hits,
        }


def _parse_order(body: bytes, now: float) -> Fault:
    try:
        order = json.loads(body)
    except (ValueError, RecursionError):
        order = None
    if not isinstance(order, dict):
        raise BadValueError('the body: expected a JSON object such as {"mode": "hang", "for": "30s"}')
    for key in order:
        if key not in _KEYS:
            raise BadValueError(f"{key}: unknown, expected {', '.join(_KEYS)}")
    mode = order.get("mode")
    if mode not in MODES:
        raise BadValueError(f"mode: expected {', '.join(MODES)}, got {mode!r}")
    share = order.get("share", 1.0)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise BadValueError(f"share: expected a number from 0 to 1, got {share!r}")
    probes = order.get("probes", mode in _HITS_PROBES_BY_DEFAULT)
    if not isinstance(probes, bool):
        raise BadValueError(f"probes: expected true or false, got {probes!r}")
    until = now + _duration("for", order["for"]) if "for" in order else None
    return Fault(mode, share, probes, _duration("delay", order.get("delay", _DEFAULT_DELAY)), until)


def _duration(name: str, value: object) -> float:
    if not isinstance(value, str):
        raise BadValueError(f'{name}: expected a duration such as "30s", got {value!r}')
    try:
        return parse_duration(value)
    except BadValueError as error:
        raise BadValueError(f"{name}: {error}") from None
