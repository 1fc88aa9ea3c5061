"""The contenders, one module each; PEERS is the order of the table."""

from __future__ import annotations

from bench.peers.haproxy import HAPROXY
from bench.peers.nginx import NGINX
from bench.peers.peer import Peer, Setting
from bench.peers.podlb import PODLB

REFERENCE = HAPROXY.name
"""The contender that ratios are relative to."""

PEERS: dict[str, Peer] = {peer.name: peer for peer in (HAPROXY, NGINX, *PODLB)}

__all__ = ["PEERS", "REFERENCE", "Peer", "Setting"]
