"""The event loop to run on: `new_event_loop(name)`. Stands alone, and is the only importer of uvloop.

`loop` has our own, over epoll. It is put together from `turn` (events, timers, callbacks, held writes), `watching`
(descriptors and the sock_* calls), `serving` (connections and servers, with `transport`), `unix` and `signals`; below
them are `poller`, whose docstring has the facts about epoll that all of it relies on, `timers`, `wakeup`, `held` and
`splice`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import select


class LoopUnavailableError(Exception):
    """The loop asked for cannot be had here. One line that says why, and what to do."""


def resolve_loop_name(name: str) -> str:
    """Return the loop that `name` ("auto", "epoll", "uvloop", "asyncio") stands for here.

    Raises LoopUnavailableError.
    """
    has_uvloop = importlib.util.find_spec("uvloop") is not None
    if name == "auto":
        # On Linux ours, the cheapest (docs/decisions/0004-our-own-event-loop.md).
        name = "epoll" if hasattr(select, "epoll") else "uvloop" if has_uvloop else "asyncio"
    if name == "epoll" and not hasattr(select, "epoll"):
        raise LoopUnavailableError("loop: epoll is there on Linux only: set loop to auto, uvloop or asyncio")
    if name == "uvloop" and not has_uvloop:
        raise LoopUnavailableError("loop: uvloop is not installed: run `pip install uvloop`, or set loop to asyncio")
    if name not in ("epoll", "uvloop", "asyncio"):
        raise LoopUnavailableError(f"loop: {name} is not known: set loop to auto, epoll, uvloop or asyncio")
    return name


def new_event_loop(name: str) -> asyncio.AbstractEventLoop:
    """Return a new loop of the kind that `resolve_loop_name` gives. Raises LoopUnavailableError."""
    name = resolve_loop_name(name)
    if name == "epoll":
        from lb.eventloop.loop import EpollEventLoop

        return EpollEventLoop()
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()
