"""SHELL: how a client connection ends: replies of our own, closing in order, lingering, resetting."""

from __future__ import annotations

import asyncio
import enum

from lb.deadline import NEVER
from lb.errors import EndReason, end_word, proxy_status_error
from lb.flow import ANY_REASON, Flow
from lb.http1.replies import Problem, problem_reply
from lb.metrics import OWN_REPLIES_4XX, OWN_REPLIES_5XX, SENT_BYTES
from lb.progress import LOOKS, Progress
from lb.proxy import Proxy
from lb.sockets import reset, unsent_bytes

# RFC 9112, section 9.6: read on for a while after the last response, or the client's unread bytes make a reset of it
# that can overtake the response.
_LINGER_SECONDS = 2.0
_LONGEST_LINGER_SECONDS = 30.0
_DRAIN_LINGER_SECONDS = 0.5


class Phase(enum.Enum):
    """How far a client connection is from its end."""

    OPEN = enum.auto()
    """Requests are read and answered."""
    LINGERING = enum.auto()
    """The last response was sent, and our FIN; what still comes is discarded."""
    CLOSED = enum.auto()


OPEN = Phase.OPEN
"""By a name of its own: looking up an enumeration's member costs 60 ns."""


class ClosingConnection(asyncio.Protocol):
    """What a client connection needs to end well, and the deadline that every phase of it has."""

    __slots__ = (
        "_eof",
        "_linger_until",
        "_phase",
        "_progress",
        "_proxy",
        "deadline",
        "filed",
        "request_flow",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._eof = False
        self._phase = Phase.OPEN
        self._linger_until = 0.0
        self._progress: Progress | None = None
        self.deadline = NEVER
        self.filed = NEVER
        self.request_flow = Flow()

    def deadline_passed(self, now: float) -> None:
        """What was awaited did not come in time."""
        raise NotImplementedError

    def set_deadline(self, deadline: float) -> None:
        """Be told when `deadline` has passed; the one before no longer counts."""
        self.deadline = deadline
        if deadline < self.filed:
            self._proxy.file_deadline(self)

    def write(self, data: bytes) -> None:
        """Send bytes of a response."""
        proxy = self._proxy
        proxy.counters[SENT_BYTES] += len(data)
        proxy.outbox.write(self.transport, data)

    def unsent(self) -> int:
        """Return how many bytes of responses the client has not taken yet."""
        return unsent_bytes(self.transport)

    def _reply(
        self,
        status: int,
        reason: EndReason,
        detail: str,
        what: str,
        retry_after: int | None,
        *,
        request_id: bytes,
        close: bool,
        body: bool = True,
    ) -> int:
        """Send a reply of our own; return its size in bytes."""
        word = end_word(reason, what)
        self._proxy.counters[OWN_REPLIES_4XX if status < 500 else OWN_REPLIES_5XX] += 1
        data = problem_reply(
            Problem(status, detail, proxy_status_error(reason, status), word, retry_after),
            request_id=request_id,
            date=self._proxy.http_date(),
            close=close,
            body=body,
        )
        self.write(data)
        return len(data)

    def _finish(self, *, linger: bool) -> None:
        """Close in order behind what was written; with `linger`, read on for a while first."""
        if self._phase is not Phase.OPEN:
            return
        self._phase = Phase.LINGERING
        # Read on, whatever had held it: nothing is passed on any more.
        self.request_flow.release(ANY_REASON)
        now = self._proxy.clock()
        self._linger_until = now + _LONGEST_LINGER_SECONDS
        if linger and not self._eof and not self.transport.is_closing() and self.transport.can_write_eof():
            self._proxy.outbox.flush()
            self.transport.write_eof()
        else:
            self._proxy.outbox.close(self.transport)
        self.set_deadline(now + (_DRAIN_LINGER_SECONDS if self._proxy.is_draining else _LINGER_SECONDS))

    def _finished(self, now: float) -> None:
        """The time to linger is over: close, unless the client is still taking the last response."""
        unsent = unsent_bytes(self.transport)
        if self._progress is None:
            self._progress = Progress()
        if unsent and self._progress.looked(unsent, now) < self._proxy.config.body_idle_timeout:
            self.set_deadline(now + self._proxy.config.body_idle_timeout / LOOKS)
        elif unsent:
            self._reset()
        else:
            self.transport.close()

    def _lingered(self) -> None:
        """The client goes on sending: give it time, but not for ever, and not while draining."""
        if self._phase is Phase.LINGERING and not self._proxy.is_draining:
            self.set_deadline(min(self._proxy.clock() + _LINGER_SECONDS, self._linger_until))

    def _reset(self) -> None:
        self._phase = Phase.CLOSED
        reset(self.transport)
