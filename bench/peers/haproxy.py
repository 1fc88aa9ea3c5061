"""HAProxy in HTTP mode, one thread: what every ratio is relative to."""

from __future__ import annotations

from bench.peers.peer import Peer, Setting
from bench.proc import HOST


def configuration(setting: Setting) -> str:
    """haproxy.cfg"""
    servers = "\n".join(f"    server endpoint{i} {address}" for i, address in enumerate(setting.backends))
    return f"""\
global
    nbthread 1
    maxconn 4096

defaults
    mode http
    option forwardfor
    http-reuse always
    balance roundrobin
    timeout connect 1s
    timeout client 75s
    timeout server 60s

frontend clients
    bind {HOST}:{setting.port}
    default_backend endpoints

backend endpoints
{servers}
"""


def _argv(setting: Setting) -> list[str]:
    return ["haproxy", "-db", "-f", setting.write("haproxy.cfg", configuration(setting))]


HAPROXY = Peer(
    name="haproxy",
    argv=_argv,
    program="haproxy",
    version_flag="-v",
    install="apt install haproxy (Debian, Ubuntu) or brew install haproxy (macOS)",
)
