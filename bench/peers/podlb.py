"""podlb as a user starts it, with the loop and the parser as the only difference between the rows."""

from __future__ import annotations

import dataclasses
import select
import sys

from bench.peers.peer import TCP, Peer, Setting
from bench.proc import HOST


def podlb(name: str, loop: str, parser: str, *flags: str) -> Peer:
    """A podlb row of the table, with further flags, run by the interpreter that runs the benchmark."""

    def argv(setting: Setting) -> list[str]:
        return [
            *(sys.executable, "-m", "lb", "run"),
            *("--host", HOST, "--port", str(setting.port)),
            *("--backends", ",".join(setting.backends)),
            *("--loop", loop, "--parser", parser),
            *("--admin-port", str(setting.admin_port)),
            *flags,
        ]

    return Peer(
        name=name,
        argv=argv,
        program=sys.executable,
        version_flag="--version",
        install="make test",
        tells_heads="tcp" not in flags,
        impossible="epoll is there on Linux only" if loop == "epoll" and not hasattr(select, "epoll") else None,
    )


def _tcp(loop: str) -> Peer:
    return dataclasses.replace(podlb(f"podlb-{loop}-tcp", loop, "auto", "--mode", "tcp"), scenarios=(TCP,))


PODLB = (
    podlb("podlb-epoll", loop="epoll", parser="auto"),
    podlb("podlb-uvloop", loop="uvloop", parser="auto"),
    podlb("podlb-asyncio", loop="asyncio", parser="auto"),
    podlb("podlb-epoll-h11", loop="epoll", parser="h11"),
    podlb("podlb-h11", loop="uvloop", parser="h11"),
    _tcp("epoll"),
    _tcp("uvloop"),
)
