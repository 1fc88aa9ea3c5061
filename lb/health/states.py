"""CORE: in which state each endpoint is, why, and since when: for people.

Nothing here decides anything. Times are seconds on the caller's clock.
"""

from __future__ import annotations

from typing import NamedTuple

from lb.endpoint import Endpoint, EndpointKey, Snapshot
from lb.health.set_aside import SetAside

AVAILABLE, SET_ASIDE, ON_TRIAL, NOT_READY = STATES = ("available", "set aside", "on trial", "not ready")
"""Every state. Requests go to those that are available, and one request to one that is on trial."""

_IN_PANIC = "not ready, but none is (panic)"


class State(NamedTuple):
    """The state of an endpoint at one moment."""

    word: str
    """One of `STATES`."""
    reason: str
    """Why it is in this state; empty if there is nothing to say."""
    since: float
    """When it came into this state; of one that is set aside or on trial, when it failed first."""
    seconds_left: float
    """For how long it is set aside from now on; 0 for the others."""


class States:
    """Remembers since when endpoints are ready, or not, beside what `set_aside` knows."""

    def __init__(self, set_aside: SetAside) -> None:
        self._set_aside = set_aside
        self._since: dict[EndpointKey, tuple[bool, float]] = {}

    def replace(self, snapshot: Snapshot, now: float) -> None:
        """`snapshot` was published: note who is new, and who became ready or is so no more."""
        before = self._since
        self._since = after = {}
        for endpoint in snapshot:
            known = before.get(endpoint.key)
            if known is None or known[0] is not endpoint.ready:
                known = (endpoint.ready, now)
            after[endpoint.key] = known

    def came_back(self, key: EndpointKey, now: float) -> None:
        """A connect succeeded to an endpoint that was set aside."""
        known = self._since.get(key)
        if known is not None:
            self._since[key] = (known[0], now)

    def of(self, endpoint: Endpoint, now: float) -> State:
        """Return the state of an endpoint as it stands in the snapshot that is balanced over."""
        is_ready, since = self._since.get(endpoint.key, (endpoint.ready, now))
        outage = self._set_aside.outage(endpoint.key)
        if not endpoint.ready:
            return State(NOT_READY, "" if outage is None else outage[0], since, 0.0)
        if outage is None:
            return State(AVAILABLE, "" if is_ready else _IN_PANIC, since, 0.0)
        word, seconds_left = self._set_aside.state(endpoint, now)
        return State(word, outage[0], outage[1], seconds_left)
