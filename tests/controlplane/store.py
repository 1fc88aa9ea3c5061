"""What an API server keeps: objects, one version for all of them, and the events since a version, until forgotten."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import NamedTuple

from tests.controlplane.objects import Object, Resource, resource_of

Key = tuple[str, str, str]
"""The plural of the resource, namespace, name."""


class TooOldError(Exception):
    """The version was forgotten."""


class Event(NamedTuple):
    """A change: `old` is None for a new object, `new` for one that is gone."""

    version: int
    key: Key
    old: Object | None
    new: Object | None


class Selection(NamedTuple):
    """Which objects a request is about: all those in a namespace with these labels and this name (None: any)."""

    resource: Resource
    namespace: str
    labels: tuple[tuple[str, str], ...] = ()
    name: str | None = None

    def takes(self, key: Key, obj: Object | None) -> bool:
        """Is this one of them?"""
        plural, namespace, name = key
        if obj is None or plural != self.resource.plural or namespace != self.namespace:
            return False
        labels = obj["metadata"].get("labels") or {}
        return self.name in (None, name) and all(labels.get(label) == value for label, value in self.labels)

    def seen(self, event: Event) -> tuple[str, Object] | None:
        """Return the type and object of the watch event that `event` is for this selection, if it is one.

        An object that gets or loses the labels is new to the watcher, or deleted, although it exists all the time.
        """
        before, after = self.takes(event.key, event.old), self.takes(event.key, event.new)
        if after:
            assert event.new is not None
            return "MODIFIED" if before else "ADDED", event.new
        if before:
            assert event.old is not None
            # With the version of the deletion: the next watch starts there.
            gone = copy.deepcopy(event.old)
            gone["metadata"]["resourceVersion"] = str(event.version)
            return "DELETED", gone
        return None


class Backup(NamedTuple):
    """All objects at a version."""

    version: int
    objects: dict[Key, Object]


class Store:
    """Objects are never changed in place: each change puts a new one, so that lists and events can share them."""

    def __init__(self, version: int = 1000) -> None:
        self.lock = threading.Lock()
        self.version = version
        self.on_change: Callable[[], None] = lambda: None
        """Called after each change, without the lock."""
        self._objects: dict[Key, Object] = {}
        self._events: list[Event] = []
        self._oldest = version
        """The events behind this version are all here."""
        self._uids = 0

    def put(self, namespace: str, obj: Object) -> int:
        """Create or replace; return the version."""
        key = (resource_of(obj).plural, namespace, obj["metadata"]["name"])
        new = copy.deepcopy(obj)
        with self.lock:
            old = self._objects.get(key)
            self.version += 1
            metadata = new["metadata"]
            metadata["namespace"] = namespace
            metadata["resourceVersion"] = str(self.version)
            if old is None:
                self._uids += 1
                metadata["uid"] = f"00000000-0000-4000-8000-{self._uids:012}"
                metadata["creationTimestamp"] = "2026-01-01T00:00:00Z"
                metadata["generation"] = 1
                metadata["managedFields"] = [{"manager": "tests", "operation": "Apply", "fieldsType": "FieldsV1"}]
            else:
                metadata["uid"] = old["metadata"]["uid"]
                metadata["creationTimestamp"] = old["metadata"]["creationTimestamp"]
                metadata["generation"] = old["metadata"]["generation"] + 1
            self._objects[key] = new
            self._events.append(Event(self.version, key, old, new))
            version = self.version
        self.on_change()
        return version

    def delete(self, resource: Resource, namespace: str, name: str) -> int:
        """Delete; return the version."""
        key = (resource.plural, namespace, name)
        with self.lock:
            old = self._objects.pop(key)
            self.version += 1
            self._events.append(Event(self.version, key, old, None))
            version = self.version
        self.on_change()
        return version

    def select(self, selection: Selection) -> tuple[list[Object], int]:
        """Return the objects, by name, and the version at which they were so."""
        with self.lock:
            found = [self._objects[key] for key in sorted(self._objects) if selection.takes(key, self._objects[key])]
            return found, self.version

    def since(self, version: int) -> list[Event]:
        """Return all events after `version`. Raise TooOldError."""
        with self.lock:
            if version < self._oldest:
                raise TooOldError(version)
            at = len(self._events)
            while at and self._events[at - 1].version > version:
                at -= 1
            return self._events[at:]

    def touch(self) -> int:
        """Something else in the cluster changed: the version rises, no watcher here hears of it."""
        with self.lock:
            self.version += 1
            return self.version

    def forget(self) -> int:
        """Forget all events, as etcd's compaction does; return the version from which on they are kept."""
        with self.lock:
            self.version += 1
            self._events.clear()
            self._oldest = self.version
            return self.version

    def drop_events(self) -> None:
        """Forget the events, which everybody has been told of; nothing else rises."""
        with self.lock:
            self._events.clear()
            self._oldest = self.version

    def backup(self) -> Backup:
        """Return everything, for `restore`."""
        with self.lock:
            return Backup(self.version, dict(self._objects))

    def restore(self, backup: Backup) -> None:
        """Be as it was then, with the version of then, which is lower than what watchers have seen since."""
        with self.lock:
            self.version = self._oldest = backup.version
            self._objects = dict(backup.objects)
            self._events.clear()
