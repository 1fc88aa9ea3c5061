"""`EpollEventLoop`: an asyncio event loop over epoll, in Python, written for a proxy.

What it takes from asyncio is what every loop shares: tasks and futures, `Handle`, the executor, and the coroutines of
`BaseEventLoop` that look names up, try addresses and build servers out of a few methods. What is written here is what
runs: the turn of the loop, timers, readiness, accepting, transports, wake-ups and signals.

A turn: wait for events; dispatch each straight to a transport or a listening socket, without a Handle or a context
switch; take the timers that are due; run the callbacks that are ready now, and only those, so that a callback that
schedules itself can't keep the events waiting. The facts about epoll that this relies on open `poller`.

Not offered: datagram endpoints, pipes and subprocesses (NotImplementedError names the method).
"""

from __future__ import annotations

from typing import Any, NoReturn

from lb.eventloop.signals import SignalLoop
from lb.eventloop.unix import UnixLoop


class EpollEventLoop(SignalLoop, UnixLoop):
    """An asyncio event loop over epoll (Linux)."""

    def _not_offered(self, name: str) -> NoReturn:
        raise NotImplementedError(f"EpollEventLoop does not offer {name}")

    async def create_datagram_endpoint(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not offered."""
        self._not_offered("create_datagram_endpoint")

    async def connect_read_pipe(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not offered."""
        self._not_offered("connect_read_pipe")

    async def connect_write_pipe(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not offered."""
        self._not_offered("connect_write_pipe")

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not offered."""
        self._not_offered("subprocess_exec")

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not offered."""
        self._not_offered("subprocess_shell")
