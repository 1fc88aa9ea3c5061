"""SHELL: what the log is told of a Service and of its API server: no more often than it helps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

_LINES_A_TIME = 200
_MOST_SAID = 1000

log = logging.getLogger(__name__)


class Notices:
    """Tells of lasting faults once, and of an outage when it begins and when it is over. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._said: set[str] = set()
        self._is_away = False
        self._away_since = 0.0

    def warn_once(self, text: str) -> None:
        """Warn of what is wrong, unless that was done before."""
        if text not in self._said and len(self._said) < _MOST_SAID:
            self._said.add(text)
            log.warning("%s", text)

    def changes(self, lines: Sequence[str]) -> None:
        """Tell of changed endpoints, a line each."""
        for line in lines[:_LINES_A_TIME]:
            log.info("%s", line)
        if len(lines) > _LINES_A_TIME:
            # Each costs 0.1 ms, and a thousand in a moment help nobody.
            log.info("%d more endpoints were added, updated or deleted", len(lines) - _LINES_A_TIME)

    def away(self, trouble: str, *, has_list: bool) -> None:
        """The API server failed with `trouble`. Are there endpoints of an earlier list?"""
        if self._is_away:
            log.debug("%s", trouble)
            return
        self._is_away = True
        self._away_since = self._clock()
        known = "the endpoints that are known stay in use, and " if has_list else ""
        log.warning("%s; %sit is tried again", trouble, known)

    def answered(self) -> None:
        """The API server answered."""
        if self._is_away:
            self._is_away = False
            log.info("the API server answers again, after %.1f s", self._clock() - self._away_since)
