"""The contenders, one module each; PEERS is the order of the table."""

from __future__ import annotations

from bench.peers.haproxy import HAPROXY, HAPROXY_AUTO, HAPROXY_SPLICE
from bench.peers.nginx import NGINX
from bench.peers.peer import Peer, Setting
from bench.peers.podlb import PODLB

REFERENCE = HAPROXY.name
"""The contender that ratios are relative to."""
SPLICING_REFERENCE = HAPROXY_SPLICE.name
"""The one that they are relative to as well where bodies are long."""

PEERS: dict[str, Peer] = {peer.name: peer for peer in (HAPROXY, HAPROXY_AUTO, HAPROXY_SPLICE, NGINX, *PODLB)}

__all__ = ["PEERS", "REFERENCE", "SPLICING_REFERENCE", "Peer", "Setting"]
