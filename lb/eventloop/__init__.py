"""An asyncio event loop over epoll, in Python, and the choice of the loop to run on: `new_event_loop(name)`.

The facts about epoll that ours relies on (epoll(7), epoll_ctl(2)):

- Level-triggered, what was not read or written is reported again, and after every event the kernel polls the descriptor
  once more to find out. So it is for listening sockets and foreign callbacks.
- Edge-triggered (EPOLLET), an event is reported once for what has arrived since the last one. That saves the second
  poll: 0.4 µs of a small request, 3 %. So it is for transports. They owe it this: bytes are left unread only behind a
  read that was filled to the brim, or without any read, and `rearm` (EPOLL_CTL_MOD polls anew) has them reported again.
  A read that was not filled took all there was; a FIN behind it is in the same event, or is an edge of its own.
- A writer is woken only after the kernel has told it that there is no room (EAGAIN, or less sent than asked for).
- EPOLLERR and EPOLLHUP are reported whether or not they were asked for. A descriptor whose owner does not react to them
  must be taken out, or the loop spins.
- EPOLLRDHUP tells of a peer's FIN although nothing is read: it is how a paused reader learns of it.
- Closing the last descriptor of a socket takes it out of the set by itself, but a duplicate, a forked child's too,
  keeps it in, and its events would be told to whoever has that number next: it is always taken out first (0.5 µs).
- An event may be reported for a descriptor that was closed, and even opened anew, by a callback of the same batch. Who
  is told is looked up when the event is dispatched, and a read for nothing costs one EAGAIN.
- A regular file can't be polled: EPERM.

`loop` has it whole. It is put together from `turn` (events, timers, callbacks, held writes), `watching` (descriptors
and the sock_* calls), `serving` (connections and servers, with `transport`), `unix` and `signals`; below them are
`poller`, `timers`, `wakeup`, `held` and `splice`. The package stands alone, and is the only importer of uvloop.
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
