"""Backends, as they are configured, to endpoints.

An address stands for itself and asks no name server. A name stands for all of its addresses, sorted: name servers
rotate their answers, and the order of rotation must not change with them. A name that can't be resolved any more keeps
the addresses it had: a name server that is down must not take the endpoints down with it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence

from lb.config import Backend
from lb.discovery import Publish
from lb.endpoint import Endpoint, Snapshot, make_endpoint

Resolve = Callable[[str], Awaitable[Iterable[str]]]
"""Name to IP addresses as text. Raises OSError (of which socket.gaierror is one) when it can't."""

LOOKUP_TIMEOUT = 10.0
"""Seconds for one name. The C library's own: 5 s a try, 2 tries for each server; the second server still gets one."""

RESOLVE_INTERVAL = 30.0
"""Seconds between look-ups of a name: the time to live that cluster DNS gives its answers."""

_SHOWN = 10  # endpoints in the line about the first snapshot

log = logging.getLogger(__name__)


async def resolve_name(name: str) -> list[str]:
    """Ask the system's resolver, off the loop. Families that this machine has no address of are left out."""
    loop = asyncio.get_running_loop()
    answers = await loop.getaddrinfo(
        name, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_ADDRCONFIG
    )
    return [str(sockaddr[0]) for *_, sockaddr in answers]


class NameTable:
    """What each name stood for when it was last resolved, and which names can't be resolved now."""

    def __init__(self, resolve: Resolve = resolve_name) -> None:
        self._resolve = resolve
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._failures: dict[str, str] = {}

    @property
    def failures(self) -> dict[str, str]:
        """Name to reason, of those that could not be resolved the last time."""
        return dict(self._failures)

    async def resolve(self, backends: Sequence[Backend]) -> Snapshot:
        """Look all names of `backends` up, at the same time, and return the endpoints that they stand for.

        A name that fails stands for its last addresses, or for none; it is warned about once, until it works again.
        """
        names = list(dict.fromkeys(backend.host for backend in backends if not backend.is_literal))
        self._forget_all_but(names)
        await asyncio.gather(*(self._look_up(name) for name in names))
        return self._endpoints(backends)

    async def _look_up(self, name: str) -> None:
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT):
                addresses = _sorted_addresses(await self._resolve(name))
        except TimeoutError:
            self._note_failure(name, f"no answer within {LOOKUP_TIMEOUT:g} s")
            return
        except OSError as exc:
            self._note_failure(name, exc.strerror or str(exc))
            return
        except UnicodeError:
            self._note_failure(name, "not a valid name")
            return
        if not addresses:
            self._note_failure(name, "it has no address")
            return
        self._addresses[name] = addresses
        if self._failures.pop(name, None) is not None:
            log.info("backend name %s is resolved again: %s", name, ", ".join(addresses))

    def _note_failure(self, name: str, reason: str) -> None:
        if name not in self._failures:
            kept = self._addresses.get(name)
            log.warning(
                "backend name %s can't be resolved: %s; %s",
                name,
                reason,
                f"its last addresses stay in use: {', '.join(kept)}" if kept else "it is left out until it can",
            )
        self._failures[name] = reason

    def _forget_all_but(self, names: Sequence[str]) -> None:
        for table in (self._addresses, self._failures):
            for name in table.keys() - set(names):
                del table[name]

    def _endpoints(self, backends: Sequence[Backend]) -> Snapshot:
        found: dict[tuple[str, int], Endpoint] = {}
        for backend in backends:
            addresses = (backend.host,) if backend.is_literal else self._addresses.get(backend.host, ())
            for address in addresses:
                found.setdefault((address, backend.port), make_endpoint(address, backend.port, name=backend.host))
        return tuple(found.values())


def explain_failures(failures: dict[str, str]) -> str:
    """Return one sentence about why no name gave an address."""
    reasons = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
    return f"none of the backends' names can be resolved ({reasons}): correct them, or give addresses"


class Publisher:
    """Hands a snapshot on when it differs from the last one, and logs each endpoint that came or went."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self.snapshot: Snapshot | None = None
        """What was published last."""

    def offer(self, snapshot: Snapshot) -> None:
        """Publish `snapshot` if it is a new one."""
        if snapshot == self.snapshot:
            return
        if self.snapshot is None:
            _log_first(snapshot)
        else:
            _log_changes(self.snapshot, snapshot)
        self.snapshot = snapshot
        self._publish(snapshot)


def _log_first(snapshot: Snapshot) -> None:
    shown = ", ".join(_label(endpoint) for endpoint in snapshot[:_SHOWN])
    more = f" and {len(snapshot) - _SHOWN} more" if len(snapshot) > _SHOWN else ""
    log.info("endpoints found: %d%s%s%s", len(snapshot), ": " if snapshot else "", shown, more)


def _log_changes(before: Snapshot, after: Snapshot) -> None:
    old, new = {endpoint.key for endpoint in before}, {endpoint.key for endpoint in after}
    for endpoint in before:
        if endpoint.key not in new:
            log.info("endpoint removed: %s", _label(endpoint))
    for endpoint in after:
        if endpoint.key not in old:
            log.info("endpoint added: %s", _label(endpoint))


def _label(endpoint: Endpoint) -> str:
    return endpoint.authority if endpoint.name == endpoint.address else f"{endpoint.authority} ({endpoint.name})"


def _sorted_addresses(answers: Iterable[str]) -> tuple[str, ...]:
    addresses = {ipaddress.ip_address(answer) for answer in answers}
    return tuple(str(a) for a in sorted(addresses, key=lambda a: (a.version, a.packed)))
