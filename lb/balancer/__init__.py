"""What chooses an endpoint, and learns: one file per policy, over one immutable snapshot."""

from __future__ import annotations

from collections.abc import Container, Set
from typing import Protocol

from lb.endpoint import Endpoint, EndpointKey, Snapshot
from lb.errors import EndReason
from lb.http1.forwarding import Request


class Policy(Protocol):
    """A way to choose."""

    learns: bool
    """Does it want to know how exchanges end?"""

    def pick(self, request: Request | None, excluding: Set[EndpointKey], now: float) -> Endpoint | None:
        """Return the endpoint for `request` that is none of `excluding`, or None. Moves the policy on."""

    def pick_again(self, after: EndpointKey, excluding: Container[EndpointKey]) -> Endpoint | None:
        """Return the next endpoint in rotation behind `after` for a retry, or None. Does not move the policy."""

    def record(self, endpoint: Endpoint, outcome: EndReason, seconds: float) -> None:
        """Learn how an exchange with `endpoint` ended, and how long it took from head to end."""

    def replace(self, snapshot: Snapshot) -> None:
        """Balance over `snapshot` from now on."""
