"""The contenders, one module each; PEERS is the order of the table."""

from __future__ import annotations

import dataclasses

from bench.peers.caddy import CADDY
from bench.peers.envoy import ENVOY
from bench.peers.haproxy import HAPROXY, HAPROXY_AUTO, HAPROXY_SPLICE, HAPROXY_TCP
from bench.peers.nginx import NGINX
from bench.peers.peer import Peer, Setting
from bench.peers.podlb import PODLB
from bench.peers.podlb_kubernetes import PODLB_KUBERNETES
from bench.peers.traefik import TRAEFIK

REFERENCE = HAPROXY.name
"""The contender that ratios are relative to, where a scenario names no other."""
SPLICING_REFERENCE = HAPROXY_SPLICE.name
"""The one that they are relative to as well where bodies are long."""

TCP_REFERENCE = HAPROXY_TCP.name
"""The one that they are relative to where bytes are passed on untouched."""

CONTROL = dataclasses.replace(
    NGINX,
    name="no-balancer",
    program="wrk",
    install="apt install wrk",
    is_backend=True,
    # Not of memory with idle connections, for it is set up for the load alone; nor of those whose load, without a
    # balancer, is that of `small`.
    scenarios=(
        *("small", "browser", "post", "medium", "chunked", "connect", "upstream-connect", "bulk", "huge"),
        *("slow-client", "websocket"),
    ),
)
"""The backend without a balancer: what load and backend can do on their core. Its CPU is the backend's."""

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        *(CONTROL, HAPROXY, HAPROXY_AUTO, HAPROXY_SPLICE, HAPROXY_TCP, NGINX, ENVOY, TRAEFIK, CADDY),
        *(*PODLB, PODLB_KUBERNETES),
    )
}

__all__ = ["CONTROL", "PEERS", "REFERENCE", "SPLICING_REFERENCE", "TCP_REFERENCE", "Peer", "Setting"]
