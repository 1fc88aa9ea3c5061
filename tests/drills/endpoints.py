"""What the EndpointSlices of the Service say, and when they said it."""

from __future__ import annotations

from typing import NamedTuple

from tests.drills.kubectl import Following, Kubectl, Object


class Key(NamedTuple):
    """Which endpoint: a pod may get another address, and an address another pod."""

    pod: str
    uid: str
    address: str


class State(NamedTuple):
    ready: bool
    serving: bool
    terminating: bool


class Ready(NamedTuple):
    """An endpoint turned ready."""

    at: float
    key: Key


def read_slice(item: Object) -> dict[Key, State]:
    """The endpoints of one slice. What is absent means what the API says that it means."""
    found = {}
    for endpoint in item.get("endpoints") or []:
        conditions = endpoint.get("conditions") or {}
        ready = conditions.get("ready") is not False
        serving = conditions.get("serving")
        target = endpoint.get("targetRef") or {}
        key = Key(target.get("name", ""), target.get("uid", ""), endpoint["addresses"][0])
        found[key] = State(ready, ready if serving is None else serving, conditions.get("terminating") is True)
    return found


class Endpoints:
    """The endpoints of a Service."""

    def __init__(self, kubectl: Kubectl, namespace: str, service: str) -> None:
        self.turned_ready: list[Ready] = []
        self.went_dark: list[float] = []
        """The instants at which the last ready endpoint was one no longer."""
        self._following = Following(
            kubectl,
            f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
            f"kubernetes.io/service-name={service}",
            self.changed,
        )
        self.start, self.stop = self._following.start, self._following.stop

    def changed(self, at: float, old: Object | None, new: Object | None) -> None:
        """A slice is another than it was."""
        before = read_slice(old) if old else {}
        after = read_slice(new) if new else {}
        for key, state in after.items():
            if state.ready and not (key in before and before[key].ready):
                self.turned_ready.append(Ready(at, key))
        if any(state.ready for state in before.values()) and not self.ready:
            self.went_dark.append(at)

    @property
    def states(self) -> dict[Key, State]:
        found: dict[Key, State] = {}
        for item in list(self._following.objects.values()):
            found |= read_slice(item)
        return found

    @property
    def ready(self) -> set[Key]:
        return {key for key, state in self.states.items() if state.ready}
