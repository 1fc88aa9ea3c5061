"""CORE: what to use when no endpoint is ready although some may well be.

When a node's kubelet dies, every endpoint on it becomes `ready: false` after 40 to 50 s, while every pod goes on
serving. To answer 503 then would turn the loss of the one who watches into the loss of the service. So those that were
ready are used until one is ready again, but none that refused a connection or did not answer since it was last well.
"""

from __future__ import annotations

from collections.abc import Container

from lb.endpoint import EndpointKey, Snapshot


def panicking(snapshot: Snapshot, failed: Container[EndpointKey]) -> Snapshot | None:
    """Return the snapshot in which those that were ready are ready, or None: no reason, or no such endpoint."""
    if any(endpoint.ready for endpoint in snapshot):
        return None
    if not any(endpoint.was_ready and endpoint.key not in failed for endpoint in snapshot):
        return None
    return tuple(endpoint._replace(ready=endpoint.was_ready and endpoint.key not in failed) for endpoint in snapshot)
