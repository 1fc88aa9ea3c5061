"""How discovery fares."""

from __future__ import annotations

from lb.discovery.status import SyncStatus


def test_at_first_nothing_is_known() -> None:
    status = SyncStatus()
    assert status.last_sync is None
    assert status.snapshot_taken is None
    assert (status.watch_restarts, status.relists, status.states, status.is_watch_forbidden) == ({}, 0, {}, False)


def test_restarts_are_counted_by_their_reason() -> None:
    status = SyncStatus()
    for reason in ("end", "cut", "end", "gone", "end"):
        status.restarted(reason)
    assert status.watch_restarts == {"end": 3, "cut": 1, "gone": 1}


def test_each_has_its_own_counts() -> None:
    one, other = SyncStatus(), SyncStatus()
    one.restarted("end")
    assert other.watch_restarts == {}
