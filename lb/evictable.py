"""SHELL: a client connection as it is seen when there is no room for another."""

from __future__ import annotations

from lb.closing import ClosingConnection, Phase
from lb.eviction import Rank
from lb.exchange import Exchange
from lb.http1.inbox import Inbox
from lb.metrics import EVICTIONS
from lb.sockets import is_drained, unsent_bytes

# A request follows its handshake at once, but not in the same turn: in a burst of new clients each would have to go for
# the next before it was read. Those that drip a head are older.
_HEAD_GRACE = 0.25


class EvictableConnection(ClosingConnection):
    """What of a client connection says whether it is in use."""

    __slots__ = ("_exchange", "_head_begun", "_inbox")

    _exchange: Exchange | None
    _head_begun: bool
    """Is a head expected, or has one begun?"""
    _inbox: Inbox

    def eviction_rank(self, *, closely: bool = False) -> Rank | None:
        """Return its place in the order: idle ones, unfinished heads, what is only closing still; oldest first."""
        if self._exchange is not None:
            return None
        is_open = self._phase is Phase.OPEN
        if closely and self._is_on_its_way():
            return None
        if not is_open:
            return 2, self.deadline
        if not (self._head_begun or self._inbox.data):
            return 0, self.deadline
        proxy = self._proxy
        begun = self.deadline - proxy.config.request_head_timeout
        return (1, self.deadline) if closely or proxy.clock() >= begun + _HEAD_GRACE else None

    def _is_on_its_way(self) -> bool:
        """Is there a response that the client has not taken yet, or anything that was not read?"""
        if self.transport.is_closing():
            # In order: then the kernel delivers what it has.
            return False
        # Closing over what was not read, and whatever comes then, resets the connection: with a request in it, or with
        # the end of a response that had not arrived.
        is_unread = not self.request_flow.held and not is_drained(self.transport)
        return is_unread or bool(unsent_bytes(self.transport))

    def evict(self) -> None:
        """Close without a word: there is no room for one, and no time."""
        proxy = self._proxy
        proxy.counters[EVICTIONS] += 1
        # From now on there is room.
        proxy.connections.discard(self)
        if self._phase is Phase.OPEN:
            self._finish(linger=False)
        else:
            # Behind its response, which may not even be written yet.
            proxy.outbox.close(self.transport)
