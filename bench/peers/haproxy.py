"""HAProxy in HTTP mode, one thread: what every ratio is relative to; and the same with bodies spliced."""

from __future__ import annotations

import dataclasses
import sys

from bench.peers.peer import Peer, Setting
from bench.proc import HOST

_MAXCONN = 4096


def configuration(setting: Setting, *options: str) -> str:
    """haproxy.cfg, with further options by name."""
    servers = "\n".join(f"    server endpoint{i} {address}" for i, address in enumerate(setting.backends))
    further = "".join(f"    option {option}\n" for option in options)
    return f"""\
global
    nbthread 1
    maxconn {max(_MAXCONN, setting.connections + 64)}

defaults
    mode http
    option forwardfor
{further}    http-reuse always
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


def _haproxy(name: str, *options: str) -> Peer:
    def argv(setting: Setting) -> list[str]:
        return ["haproxy", "-db", "-f", setting.write("haproxy.cfg", configuration(setting, *options))]

    return Peer(
        name=name,
        argv=argv,
        program="haproxy",
        version_flag="-v",
        install="apt install haproxy (Debian, Ubuntu) or brew install haproxy (macOS)",
    )


def _splicing(name: str, option: str) -> Peer:
    return dataclasses.replace(
        _haproxy(name, option),
        scenarios=("bulk", "huge"),
        impossible=None if sys.platform == "linux" else "splice is there on Linux only",
    )


HAPROXY = _haproxy("haproxy")
HAPROXY_AUTO = _splicing("haproxy-auto", "splice-auto")
HAPROXY_SPLICE = _splicing("haproxy-splice", "splice-response")
