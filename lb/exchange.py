"""One request and its response: two half-states and one transition table.

    request    WAIT_HEAD → BODY → DONE            (LOST from any of them: the client is gone)
    response   WAIT_HEAD → HELD → BODY → DONE     (LOST: the endpoint is gone before the commit; CUT: after it)

HELD: a response head is here and nothing of it went downstream yet, so the request could still go to another endpoint.
The exchange is committed from the first byte sent downstream. Rules:

 1. A response may overtake its request: DONE while the request is in BODY is a reply, then a close of both sides.
 2. An endpoint that is LOST before the commit may be replaced: RETRY takes the response back to WAIT_HEAD.
 3. An endpoint that is LOST in a response body is never replaced: the client must see the truncation.
 4. What is not in the table is a bug in the caller and raises ExchangeError, which names states and event.

The two half-states are kept as one number, `request * 6 + response`, so that a transition is one index into a table.
"""

from __future__ import annotations

import enum

from lb.endpoint import Endpoint
from lb.errors import EndReason, end_word
from lb.http1.forwarding import Request


class RequestState(enum.IntEnum):
    """How far the request has come in."""

    WAIT_HEAD = 0
    BODY = 1
    DONE = 2
    LOST = 3


class ResponseState(enum.IntEnum):
    """How far the response has come."""

    WAIT_HEAD = 0
    HELD = 1
    BODY = 2
    DONE = 3
    LOST = 4
    CUT = 5


class Event(enum.IntEnum):
    """What can happen to an exchange."""

    REQUEST_HEAD_RECEIVED = 0
    """A head with a body behind it."""
    REQUEST_RECEIVED = 1
    """A whole request, or the end of its body."""
    CLIENT_LOST = 2
    RESPONSE_HEAD_RECEIVED = 3
    COMMITTED = 4
    """The first byte goes downstream."""
    RESPONSE_ENDED = 5
    UPSTREAM_LOST = 6
    RETRIED = 7
    """The lost endpoint is replaced by another."""


_Q, _S = RequestState, ResponseState

_REQUEST_TABLE = {
    Event.REQUEST_HEAD_RECEIVED: {_Q.WAIT_HEAD: _Q.BODY},
    Event.REQUEST_RECEIVED: {_Q.WAIT_HEAD: _Q.DONE, _Q.BODY: _Q.DONE},
    Event.CLIENT_LOST: {_Q.WAIT_HEAD: _Q.LOST, _Q.BODY: _Q.LOST, _Q.DONE: _Q.LOST},
}
_RESPONSE_TABLE = {
    Event.RESPONSE_HEAD_RECEIVED: {_S.WAIT_HEAD: _S.HELD},
    # A reply of our own has no head that an endpoint sent: it is committed from where the exchange stands.
    Event.COMMITTED: {_S.WAIT_HEAD: _S.BODY, _S.HELD: _S.BODY, _S.LOST: _S.BODY},
    Event.RESPONSE_ENDED: {_S.BODY: _S.DONE},
    Event.UPSTREAM_LOST: {_S.WAIT_HEAD: _S.LOST, _S.HELD: _S.LOST, _S.BODY: _S.CUT},
    Event.RETRIED: {_S.LOST: _S.WAIT_HEAD},
}
# Nothing of a response can happen before there is a request head, and nothing at all to a client that is gone
# except that its upstream ends.
_AFTER_CLIENT_LOST = frozenset({Event.UPSTREAM_LOST})


def _joint_table() -> list[list[int]]:
    table = []
    for event in Event:
        row = []
        for request in RequestState:
            for response in ResponseState:
                next_request: RequestState | None = request
                next_response: ResponseState | None = response
                if event in _REQUEST_TABLE:
                    next_request = _REQUEST_TABLE[event].get(request)
                else:
                    next_response = _RESPONSE_TABLE[event].get(response)
                    if request is _Q.WAIT_HEAD or (request is _Q.LOST and event not in _AFTER_CLIENT_LOST):
                        next_request = None
                possible = next_request is not None and next_response is not None
                row.append(next_request * 6 + next_response if possible else -1)  # type: ignore[operator]
        table.append(row)
    return table


_TABLE = _joint_table()


def _both(first: Event, second: Event) -> list[int]:
    """Return the row for two events that happen together."""
    return [-1 if state < 0 else _TABLE[second][state] for state in _TABLE[first]]


# The hot path makes few transitions: a whole request, a response that begins at once, its end, or both at once.
_BEGIN_ROW = _both(Event.RESPONSE_HEAD_RECEIVED, Event.COMMITTED)
_END_ROW = _TABLE[Event.RESPONSE_ENDED]
_ANSWER_ROW = [-1 if state < 0 else _END_ROW[state] for state in _BEGIN_ROW]
_START = int(RequestState.WAIT_HEAD * 6 + ResponseState.WAIT_HEAD)
_WITH_BODY = _TABLE[Event.REQUEST_HEAD_RECEIVED][_START]
_COMPLETE = _TABLE[Event.REQUEST_RECEIVED][_START]
_BOTH_DONE = int(RequestState.DONE * 6 + ResponseState.DONE)


_OK = EndReason.OK


class ExchangeError(Exception):
    """An event that cannot happen in the state the exchange is in."""


class Exchange:
    """One request and its response.

    Four stamps, seconds on the caller's clock, 0.0 until it happened: `head_received`, `upstream_ready`, `first_byte`,
    `end`. What most exchanges have nothing to say of is not set in them: `attempts` (of its tries, if there were
    several), `connect_seconds`, `received` and `sent` (bytes of the request's body, and of the response); whoever wants
    to know asks with getattr.

    `head_received` is when the turn of the event loop began in which the head came, where the loop tells.
    """

    __slots__ = (
        "_state",
        "attempts",
        "client",
        "connect_seconds",
        "end",
        "end_reason",
        "end_what",
        "endpoint",
        "first_byte",
        "head_received",
        "own_since",
        "own_until",
        "received",
        "request",
        "request_id",
        "sent",
        "slot",
        "status",
        "upstream_ready",
    )

    own_until: float
    """What podlb has added to it until some instant, less that instant: of a response that is about to be written."""
    attempts: object
    client: bytes
    connect_seconds: float
    received: int
    sent: int

    def __init__(self, request: Request, now: float, complete: bool) -> None:
        """A request head was received; `complete`: there is no body behind it."""
        self.request = request
        self.request_id = request.request_id
        self.head_received = now
        self.upstream_ready = 0.0
        self.own_since = now
        """`head_received`, put off by as long as others kept it waiting before it was written to its endpoint."""
        self.first_byte = 0.0
        self.end = 0.0
        self.end_reason: EndReason | None = None
        self.status = 0
        """The status the client was given, or 0."""
        self.endpoint: Endpoint | None = None
        """The endpoint of the last attempt."""
        self.slot = -1
        """Where the counters of that endpoint are kept."""
        self._state = _COMPLETE if complete else _WITH_BODY

    @property
    def request_state(self) -> RequestState:
        """How far the request has come in."""
        return RequestState(self._state // 6)

    @property
    def response_state(self) -> ResponseState:
        """How far the response has come."""
        return ResponseState(self._state % 6)

    @property
    def is_request_complete(self) -> bool:
        """Was the whole request read?"""
        return self._state // 6 == 2

    @property
    def is_committed(self) -> bool:
        """Did the first byte of a final response go downstream?"""
        return self.status != 0

    def happened(self, event: Event) -> None:
        """Make the transition for `event`. Raises ExchangeError if it cannot happen now."""
        state = _TABLE[event][self._state]
        if state < 0:
            raise ExchangeError(f"{event.name} in {self.request_state.name}/{self.response_state.name}")
        self._state = state

    def committed(self, status: int, now: float) -> None:
        """The first byte of the response goes downstream now."""
        self.happened(Event.COMMITTED)
        self.status = status
        self.first_byte = now

    def response_began(self, status: int, now: float) -> None:
        """A response head is here and its first byte goes downstream at once."""
        state = _BEGIN_ROW[self._state]
        if state < 0:
            self.happened(Event.RESPONSE_HEAD_RECEIVED)
            self.happened(Event.COMMITTED)
        self._state = state
        self.status = status
        self.first_byte = now

    def response_ended(self) -> bool:
        """The last byte of the response went downstream. Was the request complete as well?"""
        state = _END_ROW[self._state]
        if state < 0:
            self.happened(Event.RESPONSE_ENDED)
        self._state = state
        return state == _BOTH_DONE

    def answered(self, status: int, now: float) -> None:
        """A whole response goes downstream at once, and that is the end of the exchange."""
        state = _ANSWER_ROW[self._state]
        if state < 0:
            self.response_began(status, now)
            self.response_ended()
        self._state = state
        self.status = status
        self.first_byte = self.end = now
        self.end_reason = _OK

    def ended(self, reason: EndReason, now: float, what: str = "") -> None:
        """It is over; `what` is what was bad about a bad message.

        Raises ExchangeError the second time: every exchange ends exactly once.
        """
        if self.end_reason is not None:
            raise ExchangeError(f"ended twice: {self.end_reason}, then {reason}")
        self.end_reason = reason
        self.end_what = what
        self.end = now

    @property
    def end_word(self) -> str:
        """Its end reason, one of `END_WORDS`, or an empty string as long as it goes on."""
        reason = self.end_reason
        if reason is None or reason is _OK:
            # (The attribute for what was bad is not set on the hot path.)
            return reason or ""
        return end_word(reason, self.end_what)
