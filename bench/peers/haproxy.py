"""HAProxy with one thread: in HTTP mode, which ratios are relative to; with bodies spliced; and in TCP mode."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable

from bench.peers.peer import TCP, Peer, Setting
from bench.proc import HOST

_MAXCONN = 4096


_HTTP = ("mode http", "option forwardfor", "http-reuse always")


def configuration(setting: Setting, lines: Iterable[str] = _HTTP) -> str:
    """haproxy.cfg, with these lines among its defaults."""
    servers = "\n".join(f"    server endpoint{i} {address}" for i, address in enumerate(setting.backends))
    kind = "".join(f"    {line}\n" for line in lines)
    return f"""\
global
    nbthread 1
    maxconn {max(_MAXCONN, setting.connections + 64)}

defaults
{kind}    balance roundrobin
    timeout connect 1s
    timeout client 75s
    timeout server 60s

frontend clients
    bind {HOST}:{setting.port}
    default_backend endpoints

backend endpoints
{servers}
"""


def _haproxy(name: str, *lines: str) -> Peer:
    def argv(setting: Setting) -> list[str]:
        return ["haproxy", "-db", "-f", setting.write("haproxy.cfg", configuration(setting, lines))]

    return Peer(
        name=name,
        argv=argv,
        program="haproxy",
        version_flag="-v",
        install="apt install haproxy (Debian, Ubuntu) or brew install haproxy (macOS)",
    )


def _splicing(name: str, option: str) -> Peer:
    return dataclasses.replace(
        _haproxy(name, *_HTTP, f"option {option}"),
        scenarios=("bulk", "huge"),
        impossible=None if sys.platform == "linux" else "splice is there on Linux only",
    )


HAPROXY = _haproxy("haproxy", *_HTTP)
HAPROXY_AUTO = _splicing("haproxy-auto", "splice-auto")
HAPROXY_SPLICE = _splicing("haproxy-splice", "splice-response")
HAPROXY_TCP = dataclasses.replace(_haproxy("haproxy-tcp", "mode tcp"), scenarios=("small", TCP))
