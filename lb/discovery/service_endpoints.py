"""CORE: all objects of one Service → its endpoints, each once; what changed; and the snapshot that they come to."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Raw

from lb.discovery.endpointslice import (
    NOT_READY,
    READY,
    SERVING,
    STATES,
    Member,
    Parse,
    Parsed,
    Port,
    UnreadableError,
    name_of,
    parse_slice,
)
from lb.endpoint import Endpoint, EndpointKey, Snapshot, format_authority

_RANK = {state: at for at, state in enumerate(STATES)}

Members = dict[EndpointKey, Member]


class ServiceEndpoints:
    """All objects of one Service, and the endpoints that they come to.

    A list is collected beside what is in force and replaces it when it is complete, so that nobody ever sees a half.
    `parse` is `parse_slice` or `parse_endpoints`.
    """

    def __init__(self, port: Port, parse: Parse = parse_slice) -> None:
        self._port = port
        self._parse = parse
        self._objects: dict[str, Parsed] = {}
        self._listing: dict[str, Parsed] = {}
        self._were_ready: frozenset[EndpointKey] = frozenset()
        self.members: Members = {}

    def begin_list(self) -> None:
        """A list begins, from its first page."""
        self._listing = {}

    def page_received(self, items: Iterable[Raw]) -> list[str]:
        """Take in a page of the list; return what is wrong with it."""
        problems: list[str] = []
        for item in items:
            try:
                parsed = self._parse(item, self._port)
            except UnreadableError as error:
                problems.append(str(error))
                known = self._objects.get(name_of(item) or "")
                if known is None:
                    continue
                # Better what it was before than none of its endpoints.
                parsed = known._replace(problems=())
            self._listing[parsed.name] = parsed
            problems += parsed.problems
        return problems

    def list_complete(self) -> None:
        """The list that was collected is what there is."""
        self._objects, self._listing = self._listing, {}

    def changed(self, item: Raw, *, is_deleted: bool) -> tuple[str, ...]:
        """An object is new, or changed, or is gone. Returns what is wrong with it. Raises UnreadableError."""
        parsed = self._parse(item, self._port)
        if is_deleted:
            self._objects.pop(parsed.name, None)
            return ()
        self._objects[parsed.name] = parsed
        return parsed.problems

    @property
    def is_empty(self) -> bool:
        """Is there no object at all?"""
        return not self._objects

    def missing_port(self) -> tuple[str, ...] | None:
        """Return the ports that are listed if none of them is the one asked for, else None."""
        objects = [parsed for parsed in self._objects.values() if parsed.has_port is not None]
        if not objects or any(parsed.has_port for parsed in objects):
            return None
        return tuple(sorted({port for parsed in objects for port in parsed.ports}))

    def remember_ready(self, keys: Iterable[EndpointKey]) -> None:
        """These were ready when somebody looked last (a snapshot of before this process began)."""
        self._were_ready |= frozenset(keys)

    def merge(self) -> tuple[Members, Members]:
        """Work out `members` anew; return the old and the new ones."""
        old = self.members
        self.members = members = _merge(self._objects.values())
        self._were_ready = frozenset(
            key for key, member in members.items() if member.state == READY or key in self._were_ready
        )
        return old, members

    def snapshot(self) -> Snapshot:
        """Return all endpoints; those that requests should go to are ready.

        These are the ready ones; if there are none, those that terminate and still serve. Those that were ready, and
        are not now, are marked: whoever is left without any may use them.
        """
        members = self.members.values()
        chosen = READY if any(member.state == READY for member in members) else SERVING
        return tuple(
            # By place: with 2,000 of them, names take twice as long.
            Endpoint(key, name, 1, node, zone, state == chosen, state == NOT_READY and key in self._were_ready)
            for key, name, node, zone, state in members
        )

    def states(self) -> dict[str, int]:
        """Return how many endpoints are in each state."""
        counts = dict.fromkeys(STATES, 0)
        for member in self.members.values():
            counts[member.state] += 1
        return counts


def _merge(objects: Iterable[Parsed]) -> Members:
    """Return each endpoint once.

    Of one pod in two slices the newer slice knows more; of two pods at one address the ready one is there. A pod with
    an address of each family is one endpoint, at its IPv4 address: as two it would get twice its share.
    """
    pods: dict[tuple[str, str], tuple[int, Member]] = {}
    for parsed in objects:
        version = parsed.version
        for member in parsed.members:
            uid, address, port = member.key
            # (Of what is no pod, two ports of one address may be two things.)
            identity = (uid, "6" if ":" in address else "4") if uid else ("", f"{address} {port}")
            known = pods.get(identity)
            if known is None or version > known[0]:
                pods[identity] = version, member
    chosen: dict[tuple[str, int], Member] = {}
    for (uid, family), (_, member) in pods.items():
        if family == "6" and (uid, "4") in pods:
            continue
        place = member.key[1:]
        other = chosen.get(place)
        if other is None or _RANK[member.state] < _RANK[other.state]:
            chosen[place] = member
    return {member.key: member for member in chosen.values()}


def describe_changes(old: Members, new: Members) -> Iterable[str]:
    """Yield a line for each endpoint that was added, updated or deleted."""
    for key, member in new.items():
        before = old.get(key)
        if before is None:
            yield f"endpoint added: {_describe(member)} ({member.state})"
        elif before.state != member.state:
            yield f"endpoint updated: {_describe(member)} ({before.state} -> {member.state})"
    for key in old.keys() - new.keys():
        yield f"endpoint deleted: {_describe(old[key])} (gone)"


def _describe(member: Member) -> str:
    return f"pod {member.name or '?'} at {format_authority(member.key[1], member.key[2])}"
