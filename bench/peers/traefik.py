"""Traefik on one processor."""

from __future__ import annotations

import json

from bench.peers.peer import REQUIREMENTS, Peer, Setting
from bench.proc import HOST


def _argv(setting: Setting) -> list[str]:
    servers = [{"url": f"http://{backend}"} for backend in setting.backends]
    dynamic = {
        "http": {
            "routers": {"all": {"entryPoints": ["clients"], "rule": "PathPrefix(`/`)", "service": "endpoints"}},
            # Round robin is what it does.
            "services": {"endpoints": {"loadBalancer": {"servers": servers, "passHostHeader": True}}},
        }
    }
    # (JSON is YAML.)
    static = {
        "entryPoints": {"clients": {"address": f"{HOST}:{setting.port}"}},
        "providers": {"file": {"filename": setting.write("dynamic.yaml", json.dumps(dynamic, indent=1))}},
        "serversTransport": {"maxIdleConnsPerHost": 256},
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"level": "ERROR"},
    }
    file = setting.write("static.yaml", json.dumps(static, indent=1))
    return ["env", "GOMAXPROCS=1", "traefik", f"--configFile={file}"]


TRAEFIK = Peer(name="traefik", argv=_argv, program="traefik", version_flag="version", install=REQUIREMENTS)
