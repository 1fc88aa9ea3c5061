"""SHELL: changes that come one upon the other cost one update, not one each.

A large Service changes slice by slice, and what has to be worked out after each is worked out of all. So as long as
more is there to be read, the update waits; but never for long, for the rest may never come.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

HOLD_SECONDS = 0.02

log = logging.getLogger(__name__)


class Settling:
    """Calls `settle` after changes, by one thread at a time. Whoever makes a change holds `lock`."""

    def __init__(self, settle: Callable[[], None], hold_seconds: float = HOLD_SECONDS) -> None:
        self.lock = threading.Lock()
        self._settle = settle
        self._hold_seconds = hold_seconds
        self._is_dirty = False
        self._timer: threading.Timer | None = None

    def changed(self) -> None:
        """Something has changed. (Call it with the lock.)"""
        self._is_dirty = True

    def settle(self, *, more_follows: bool = False) -> None:
        """Settle what has changed: now, or if `more_follows` together with that, `hold_seconds` from now at most."""
        with self.lock:
            if not self._is_dirty:
                return
            if not more_follows:
                self._settle()
                # Only now: what failed is tried again with the next change.
                self._is_dirty = False
            elif self._timer is None:
                self._timer = threading.Timer(self._hold_seconds, self._time_passed)
                # No exit waits for it.
                self._timer.daemon = True
                self._timer.start()

    def _time_passed(self) -> None:
        with self.lock:
            self._timer = None
        try:
            self.settle()
        except Exception:
            log.exception("an update of the endpoints failed")
