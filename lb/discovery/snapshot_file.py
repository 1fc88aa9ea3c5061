"""SHELL: the last snapshot in a file, so that podlb can start while the API server can't be reached."""

from __future__ import annotations

import ipaddress
import logging
import os
import time
from collections.abc import Callable
from typing import Annotated, NamedTuple

import msgspec

from lb.endpoint import Endpoint, Snapshot

_FORMAT = 1
_LIMIT = 64 * 1024 * 1024
REFRESH_SECONDS = 30.0
"""An unchanged snapshot is written again so often while it is known to be right: its age is what says so."""

log = logging.getLogger(__name__)


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    uid: str
    address: str
    port: Annotated[int, msgspec.Meta(gt=0, lt=65536)]
    name: str
    node: str
    zone: str
    ready: bool
    was_ready: bool


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    service: str
    """Which Service, and which port of it: another's endpoints must not serve."""
    taken: float
    """When it was known to be right, in seconds since 1970."""
    endpoints: list[_Entry]


class Saved(NamedTuple):
    """A snapshot that was read. `age` says how old it is now, in seconds."""

    snapshot: Snapshot
    age: Callable[[], float]


class SnapshotFile:
    """The file at `path` for `service`. `wall_clock` gives seconds since 1970."""

    def __init__(self, path: str, service: str, max_age: float, wall_clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._service = service
        self._max_age = max_age
        self._wall_clock = wall_clock
        self._written: Snapshot | None = None
        self._written_at = 0.0
        self._has_failed = False

    def save(self, snapshot: Snapshot) -> None:
        """Write what is known to be right now. A failure is told of once and changes nothing else."""
        now = self._wall_clock()
        if snapshot == self._written and 0 <= now - self._written_at < REFRESH_SECONDS:
            return
        entries = [_Entry(e.uid, e.address, e.port, e.name, e.node, e.zone, e.ready, e.was_ready) for e in snapshot]
        data = msgspec.json.encode(_Content(_FORMAT, self._service, now, entries))
        temporary = f"{self._path}.new"
        try:
            with open(temporary, "wb") as file:
                # Not forced to the disk, which may take long: it is to outlive the process, not the machine.
                file.write(data)
            # Whoever reads it sees the old one or the new one, whole.
            os.replace(temporary, self._path)
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                log.warning("snapshotFile %s can't be written: %s", self._path, error.strerror or error)
            return
        self._has_failed = False
        self._written, self._written_at = snapshot, now

    def load(self) -> Saved | None:
        """Read it. None: there is none that can be used, which the log tells of unless there is none at all."""
        try:
            with open(self._path, "rb") as file:
                data = file.read(_LIMIT + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("snapshotFile %s can't be read: %s", self._path, error.strerror or error)
            return None
        try:
            content = msgspec.json.decode(data, type=_Content)
            if content.format != _FORMAT:
                raise ValueError(f"its format is {content.format}, not {_FORMAT}")
            for entry in content.endpoints:
                ipaddress.ip_address(entry.address)
        except ValueError as error:
            self._move_aside(str(error))
            return None
        if content.service != self._service:
            log.warning("snapshotFile %s is of %s, not of %s: not used", self._path, content.service, self._service)
            return None
        age = self._wall_clock() - content.taken
        if not 0 <= age <= self._max_age:
            why = f"older than snapshotMaxAge ({self._max_age:g} s)" if age > 0 else "from the future"
            log.warning("snapshotFile %s is %.0f s old, %s: not used", self._path, age, why)
            return None
        snapshot = tuple(
            Endpoint((e.uid, e.address, e.port), e.name, 1, e.node, e.zone, e.ready, e.was_ready)
            for e in content.endpoints
        )
        return Saved(snapshot, lambda: self._wall_clock() - content.taken)

    def _move_aside(self, why: str) -> None:
        aside = f"{self._path}.damaged"
        try:
            os.replace(self._path, aside)
        except OSError as error:
            log.warning("snapshotFile %s is damaged (%s), and can't be moved: %s", self._path, why, error.strerror)
        else:
            log.warning("snapshotFile %s is damaged (%s): moved to %s", self._path, why, aside)
