"""Envoy with one worker thread."""

from __future__ import annotations

import json
from typing import Any

from bench.peers.peer import REQUIREMENTS, Peer, Setting
from bench.proc import HOST


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def configuration(setting: Setting) -> dict[str, Any]:
    """The bootstrap: one listener, one route, one cluster."""
    extensions = "type.googleapis.com/envoy.extensions"
    router = {"@type": f"{extensions}.filters.http.router.v3.Router"}
    manager = {
        "@type": f"{extensions}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "clients",
        "codec_type": "HTTP1",
        # X-Forwarded-For.
        "use_remote_address": True,
        # All others allow it unasked, or are told in a place of its own.
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "endpoints", "timeout": "60s"}}],
                }
            ]
        },
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    endpoints = [
        {"endpoint": {"address": _address(host, int(port))}}
        for host, _, port in (backend.rpartition(":") for backend in setting.backends)
    ]
    # By default no more than 1,024 of each, over all endpoints.
    most = setting.connections * len(setting.backends) + 1024
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), most)
    cluster = {
        "name": "endpoints",
        "type": "STATIC",
        "lb_policy": "ROUND_ROBIN",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "endpoints", "endpoints": [{"lb_endpoints": endpoints}]},
        "circuit_breakers": {"thresholds": [limits]},
    }
    return {
        "static_resources": {
            "listeners": [
                {"name": "clients", "address": _address(HOST, setting.port), "filter_chains": [{"filters": filters}]}
            ],
            "clusters": [cluster],
        }
    }


def _argv(setting: Setting) -> list[str]:
    file = setting.write("envoy.json", json.dumps(configuration(setting), indent=1))
    return ["envoy", "-c", file, "--concurrency", "1", "--disable-hot-restart", "-l", "error"]


ENVOY = Peer(name="envoy", argv=_argv, program="envoy", version_flag="--version", install=REQUIREMENTS)
