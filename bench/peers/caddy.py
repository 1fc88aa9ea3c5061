"""Caddy on one processor."""

from __future__ import annotations

from bench.peers.peer import REQUIREMENTS, Peer, Setting
from bench.proc import HOST


def configuration(setting: Setting) -> str:
    """The Caddyfile: plain HTTP/1.1, no admin port, no log of requests."""
    return f"""\
{{
    admin off
    auto_https off
    persist_config off
    log {{
        level ERROR
    }}
    servers {{
        protocols h1
    }}
}}

http://:{setting.port} {{
    bind {HOST}
    reverse_proxy {" ".join(setting.backends)} {{
        lb_policy round_robin
        transport http {{
            keepalive_idle_conns {max(1024, 4 * len(setting.backends))}
            keepalive_idle_conns_per_host 256
        }}
    }}
}}
"""


def _argv(setting: Setting) -> list[str]:
    file = setting.write("Caddyfile", configuration(setting))
    # One processor as the others have one worker; and nothing of it in the user's home.
    environment = ["GOMAXPROCS=1", f"XDG_DATA_HOME={setting.directory}", f"XDG_CONFIG_HOME={setting.directory}"]
    return ["env", *environment, "caddy", "run", "--config", file, "--adapter", "caddyfile"]


CADDY = Peer(name="caddy", argv=_argv, program="caddy", version_flag="version", install=REQUIREMENTS)
