"""epoll, with what each descriptor waits for remembered, so that nothing is asked of the kernel twice.

The facts about epoll that this relies on open the package, `lb.eventloop`.
"""

from __future__ import annotations

import select
from contextlib import suppress

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
PEER_CLOSED = select.EPOLLRDHUP
ERROR = select.EPOLLERR
HANG_UP = select.EPOLLHUP
EDGE = select.EPOLLET

# What a sink does with bytes that are there. READS_DATA is READ, so that one comparison with an event says it all.
NOT_READING, READS_DATA, READS_INTO_BUFFER, SPLICES = 0, READ, -1, -2


class Sink:
    """Who is told of a descriptor's events."""

    __slots__ = ()

    reading: int = NOT_READING
    """READS_DATA: bytes that are there may be read at once and given to its protocol."""

    def ready(self, events: int) -> None:
        """The descriptor has events. Must not raise."""
        raise NotImplementedError


class Poller:
    """An epoll set, and who is told of each descriptor in it."""

    def __init__(self) -> None:
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        self._interest: dict[int, int] = {}
        self.told: dict[int, Sink] = {}
        self.wait = self._epoll.poll
        """`wait(timeout, most)`: up to `most` pairs of (descriptor, events); seconds, negative for no limit."""

    def add(self, fd: int, sink: Sink, events: int) -> None:
        """Tell `sink` of `events` of `fd`."""
        if fd in self._interest:
            self.told[fd] = sink
            self.change(fd, events)
            return
        self._epoll.register(fd, events)
        self._interest[fd] = events
        self.told[fd] = sink

    def change(self, fd: int, events: int) -> None:
        """Tell of `events` of `fd` from now on."""
        if self._interest[fd] != events:
            self._epoll.modify(fd, events)
            self._interest[fd] = events

    def rearm(self, fd: int) -> None:
        """Tell of `fd` again although nothing new has arrived, if its events hold still."""
        events = self._interest.get(fd)
        if events is not None:
            self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Tell nothing of `fd` any more."""
        if self._interest.pop(fd, None) is not None:
            del self.told[fd]
            # An error means that it was closed by somebody else: the kernel took it out by itself.
            with suppress(OSError):
                self._epoll.unregister(fd)

    def close(self) -> None:
        """Close the set."""
        self._interest.clear()
        self.told.clear()
        self._epoll.close()
