"""Endpoints set aside after a failed connect or a sudden silence: no new picks for a while, then one request tries.

An endpoint that refused, timed out or acknowledged nothing any more is out for 1 s, doubling to 30 s. When that has
passed, one request may try it (its trial); the others pass it over until a connect to it has succeeded. Then it is
back, and the doubling starts anew.
"""

from __future__ import annotations

import math
from collections.abc import Set

from lb.endpoint import Endpoint, EndpointKey, Snapshot

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 30.0

_NONE: frozenset[EndpointKey] = frozenset()


class _Entry:
    __slots__ = ("seconds", "since", "trial", "until", "why")

    def __init__(self, now: float, why: str) -> None:
        self.seconds = FIRST_SECONDS
        self.since = now
        self.until = now + FIRST_SECONDS
        self.why = why
        self.trial = 0
        """The number of the trial that is under way, or 0."""


class SetAside:
    """Which endpoints are set aside. Times are seconds on the caller's clock."""

    def __init__(self) -> None:
        self._entries: dict[EndpointKey, _Entry] = {}
        self.is_empty = True
        """Is nothing set aside? The usual case, and then nothing else need be asked."""
        self._trials = 0
        self._out: frozenset[EndpointKey] = _NONE
        self._out_until = math.inf

    def out(self, now: float) -> Set[EndpointKey]:
        """Return the endpoints that get no new picks at `now`."""
        if now >= self._out_until:
            self._update(now)
        return self._out

    def picked(self, key: EndpointKey, now: float) -> int:
        """A request was given this endpoint. If it is its trial, the others pass it over from now on.

        Returns the number of the trial, by which it is known when it is decided, or 0 if it is none.
        """
        entry = self._entries.get(key)
        if entry is None or entry.trial or now < entry.until:
            return 0
        self._trials += 1
        entry.trial = self._trials
        self._update(now)
        return entry.trial

    def trial_abandoned(self, key: EndpointKey, now: float, trial: int) -> None:
        """The request that tried the endpoint went away before its connect was decided: another may try."""
        entry = self._entries.get(key)
        if entry is not None and entry.trial == trial:
            entry.trial = 0
            self._update(now)

    def connect_failed(self, key: EndpointKey, now: float, *, trial: int, why: str = "") -> bool:
        """A connect was refused or timed out. Is the endpoint newly set aside, or for longer? `why` is for people.

        Of many connects that fail together only the first counts; so does the trial that `picked` gave a number, and
        nothing else while it lasts. (A trial of before the endpoint was forgotten no longer counts.)
        """
        entry = self._entries.get(key)
        if entry is None:
            self._entries[key] = _Entry(now, why)
        elif trial and trial == entry.trial:
            entry.seconds = min(entry.seconds * 2, LONGEST_SECONDS)
            entry.until = now + entry.seconds
            entry.trial = 0
            entry.why = why
        else:
            return False
        self._update(now)
        return True

    def connected(self, key: EndpointKey, now: float) -> bool:
        """A connect succeeded. Was the endpoint set aside, and is back?"""
        if not self._entries or self._entries.pop(key, None) is None:
            return False
        self._update(now)
        return True

    @property
    def failed(self) -> Set[EndpointKey]:
        """The endpoints to which no connect has succeeded since one failed."""
        return self._entries.keys()

    def soonest_first(self) -> list[EndpointKey]:
        """Return the endpoints that are set aside, the soonest to return first."""
        return sorted(self._entries, key=lambda key: self._entries[key].until)

    def next_return(self, now: float) -> float | None:
        """Return when the next endpoint may be tried again, or None."""
        return self._out_until if self.out(now) and self._out_until < math.inf else None

    def replace(self, old: Snapshot, new: Snapshot, now: float) -> None:
        """Forget the endpoints that left, and those that turned from not ready to ready: they are as good as new."""
        if not self._entries:
            return
        was_ready = {endpoint.key for endpoint in old if endpoint.ready}
        still_ready = {endpoint.key for endpoint in new if endpoint.ready and endpoint.key in was_ready}
        not_ready = {endpoint.key for endpoint in new if not endpoint.ready}
        keep = still_ready | not_ready
        self._entries = {key: entry for key, entry in self._entries.items() if key in keep}
        self._update(now)

    def state(self, endpoint: Endpoint, now: float) -> tuple[str, float]:
        """Return ("available", 0), ("set aside", seconds left) or ("on trial", 0), for people."""
        entry = self._entries.get(endpoint.key)
        if entry is None:
            return "available", 0.0
        if entry.trial:
            return "on trial", 0.0
        return "set aside", max(entry.until - now, 0.0)

    def outage(self, key: EndpointKey) -> tuple[str, float] | None:
        """Return why the endpoint is out and since when no connect to it has succeeded, for people; None: it is not."""
        entry = self._entries.get(key)
        return None if entry is None else (entry.why, entry.since)

    def _update(self, now: float) -> None:
        entries = self._entries
        self.is_empty = not entries
        self._out = frozenset(key for key, entry in entries.items() if entry.trial or now < entry.until)
        self._out_until = min(
            (entry.until for entry in entries.values() if not entry.trial and now < entry.until), default=math.inf
        )
