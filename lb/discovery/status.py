"""CORE: how discovery fares, for /metrics. Written by the source's thread, copied by the loop: single values only."""

from __future__ import annotations


class SyncStatus:
    """What a source that follows something tells of itself. Instants are on its monotonic clock, in seconds."""

    def __init__(self) -> None:
        self.last_sync: float | None = None
        """When the last word came from the API server: a list, an event, a bookmark, the good end of a watch."""
        self.watch_restarts: dict[str, int] = {}
        """How often a watch began anew, by reason."""
        self.relists = 0
        """How many lists followed the first one."""
        self.states: dict[str, int] = {}
        """How many endpoints are in each state."""
        self.is_watch_forbidden = False
        self.snapshot_taken: float | None = None
        """When the snapshot file that serves was right, or None: what serves is what the API server said."""

    def copy(self) -> SyncStatus:
        """Return what it tells now."""
        other = SyncStatus()
        vars(other).update(vars(self))
        other.watch_restarts = dict(self.watch_restarts)
        return other

    def restarted(self, reason: str) -> None:
        """A watch ended."""
        self.watch_restarts[reason] = self.watch_restarts.get(reason, 0) + 1
