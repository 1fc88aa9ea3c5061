"""One request and its response: every state, every event."""

from __future__ import annotations

import itertools
from collections import deque

import pytest

from lb.errors import EndReason
from lb.exchange import Event, Exchange, ExchangeError, RequestState, ResponseState
from lb.http1.forwarding import Request, prepare_request
from lb.http1.head import HeadLimits, HeadParser

# What each event makes of each state that can be reached, written request/response; "-" is a mistake of the caller.
# HEAD   a request head with a body behind it      RHEAD  a response head is held
# WHOLE  a whole request, or its body's end        COMMIT the first byte goes downstream
# CLOST  the client is lost                        REND   the response is complete
#                                                  ULOST  the upstream is lost      RETRY  another endpoint is tried
TABLE = """
state           HEAD  WHOLE           CLOST           RHEAD      COMMIT     REND       ULOST      RETRY
BODY/WAIT_HEAD  -     DONE/WAIT_HEAD  LOST/WAIT_HEAD  BODY/HELD  BODY/BODY  -          BODY/LOST  -
BODY/HELD       -     DONE/HELD       LOST/HELD       -          BODY/BODY  -          BODY/LOST  -
BODY/BODY       -     DONE/BODY       LOST/BODY       -          -          BODY/DONE  BODY/CUT   -
BODY/CUT        -     DONE/CUT        LOST/CUT        -          -          -          -          -
BODY/DONE       -     DONE/DONE       LOST/DONE       -          -          -          -          -
BODY/LOST       -     DONE/LOST       LOST/LOST       -          BODY/BODY  -          -          BODY/WAIT_HEAD
DONE/WAIT_HEAD  -     -               LOST/WAIT_HEAD  DONE/HELD  DONE/BODY  -          DONE/LOST  -
DONE/HELD       -     -               LOST/HELD       -          DONE/BODY  -          DONE/LOST  -
DONE/BODY       -     -               LOST/BODY       -          -          DONE/DONE  DONE/CUT   -
DONE/CUT        -     -               LOST/CUT        -          -          -          -          -
DONE/DONE       -     -               LOST/DONE       -          -          -          -          -
DONE/LOST       -     -               LOST/LOST       -          DONE/BODY  -          -          DONE/WAIT_HEAD
LOST/WAIT_HEAD  -     -               -               -          -          -          LOST/LOST  -
LOST/HELD       -     -               -               -          -          -          LOST/LOST  -
LOST/BODY       -     -               -               -          -          -          LOST/CUT   -
LOST/CUT        -     -               -               -          -          -          -          -
LOST/DONE       -     -               -               -          -          -          -          -
LOST/LOST       -     -               -               -          -          -          -          -
"""
EVENTS = {
    "HEAD": Event.REQUEST_HEAD_RECEIVED,
    "WHOLE": Event.REQUEST_RECEIVED,
    "CLOST": Event.CLIENT_LOST,
    "RHEAD": Event.RESPONSE_HEAD_RECEIVED,
    "COMMIT": Event.COMMITTED,
    "REND": Event.RESPONSE_ENDED,
    "ULOST": Event.UPSTREAM_LOST,
    "RETRY": Event.RETRIED,
}
_HEADER, *_ROWS = [line.split() for line in TABLE.strip().splitlines()]
EXPECTED = {
    (row[0], name): None if to == "-" else to for row in _ROWS for name, to in zip(_HEADER[1:], row[1:], strict=True)
}
STATES = [row[0] for row in _ROWS]


def new_request(raw: bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") -> Request:
    return prepare_request(HeadParser(HeadLimits()).request(raw))


def new_exchange(*events: Event, complete: bool = True) -> Exchange:
    exchange = Exchange(new_request(), 1.0, complete=complete)
    for event in events:
        exchange.happened(event)
    return exchange


def state_of(exchange: Exchange) -> str:
    return f"{exchange.request_state.name}/{exchange.response_state.name}"


Way = tuple[bool, tuple[Event, ...]]
"""Is the request complete with its head? What happens then?"""


def at(way: Way, *events: Event) -> Exchange:
    return new_exchange(*way[1], *events, complete=way[0])


def _ways() -> dict[str, Way]:
    """Return the shortest way to every state that can be reached."""
    todo: deque[Way] = deque([(True, ()), (False, ())])
    ways = {state_of(at(way)): way for way in todo}
    while todo:
        complete, events = todo.popleft()
        for event in Event:
            way = (complete, (*events, event))
            try:
                state = state_of(at(way))
            except ExchangeError:
                continue
            if state not in ways:
                ways[state] = way
                todo.append(way)
    return ways


WAYS = _ways()


def test_the_states_that_can_be_reached_are_those_of_the_table() -> None:
    assert sorted(WAYS) == sorted(STATES)
    # An exchange begins with a request head.
    possible = {f"{request.name}/{response.name}" for request in RequestState for response in ResponseState}
    assert {state.partition("/")[0] for state in possible - set(WAYS)} == {"WAIT_HEAD"}


def test_the_table_names_every_event() -> None:
    assert set(EVENTS.values()) == set(Event)
    assert len(EXPECTED) == len(STATES) * len(Event)


@pytest.mark.parametrize(("state", "name"), list(itertools.product(STATES, EVENTS)))
def test_every_event_in_every_state(state: str, name: str) -> None:
    exchange = at(WAYS[state])
    expected = EXPECTED[state, name]
    if expected is None:
        with pytest.raises(ExchangeError) as caught:
            exchange.happened(EVENTS[name])
        assert EVENTS[name].name in str(caught.value)
        assert state in str(caught.value)
        # A mistake changes nothing.
        assert state_of(exchange) == state
    else:
        exchange.happened(EVENTS[name])
        assert state_of(exchange) == expected


@pytest.mark.parametrize("state", STATES)
def test_a_response_that_begins_is_a_head_and_a_commit(state: str) -> None:
    exchange = at(WAYS[state])
    held = EXPECTED[state, "RHEAD"]
    if held is None:
        with pytest.raises(ExchangeError, match=f"RESPONSE_HEAD_RECEIVED in {state}"):
            exchange.response_began(200, 2.0)
        assert state_of(exchange) == state
        assert (exchange.status, exchange.first_byte) == (0, 0.0)
    else:
        exchange.response_began(200, 2.0)
        assert state_of(exchange) == EXPECTED[held, "COMMIT"]
        assert (exchange.status, exchange.first_byte) == (200, 2.0)
        assert exchange.is_committed


@pytest.mark.parametrize("state", STATES)
def test_a_response_that_ended_says_whether_the_request_was_complete(state: str) -> None:
    exchange = at(WAYS[state])
    expected = EXPECTED[state, "REND"]
    if expected is None:
        with pytest.raises(ExchangeError, match=f"RESPONSE_ENDED in {state}"):
            exchange.response_ended()
        assert state_of(exchange) == state
    else:
        assert exchange.response_ended() is (expected == "DONE/DONE")
        assert state_of(exchange) == expected


@pytest.mark.parametrize("state", STATES)
def test_a_commit_is_stamped_where_it_is_possible(state: str) -> None:
    exchange = at(WAYS[state])
    expected = EXPECTED[state, "COMMIT"]
    if expected is None:
        with pytest.raises(ExchangeError, match=f"COMMITTED in {state}"):
            exchange.committed(503, 2.0)
        assert state_of(exchange) == state
        assert (exchange.status, exchange.first_byte) == (0, 0.0)
    else:
        exchange.committed(503, 2.0)
        assert state_of(exchange) == expected
        assert (exchange.status, exchange.first_byte) == (503, 2.0)


@pytest.mark.parametrize("state", STATES)
def test_an_answer_is_a_head_a_commit_an_end_and_all_there_was(state: str) -> None:
    exchange = at(WAYS[state])
    held = EXPECTED[state, "RHEAD"]
    committed = None if held is None else EXPECTED[held, "COMMIT"]
    expected = None if committed is None else EXPECTED[committed, "REND"]
    if expected is None:
        with pytest.raises(ExchangeError, match=f"RESPONSE_HEAD_RECEIVED in {state}"):
            exchange.answered(204, 2.0)
        assert state_of(exchange) == state
        assert (exchange.status, exchange.first_byte, exchange.end, exchange.end_reason) == (0, 0.0, 0.0, None)
    else:
        exchange.answered(204, 2.0)
        assert state_of(exchange) == expected
        assert (exchange.status, exchange.first_byte, exchange.end) == (204, 2.0, 2.0)
        with pytest.raises(ExchangeError, match="twice"):
            exchange.ended(EndReason.OK, 3.0)


# Before there is a request head nothing but the request itself, or its client's end, can happen. An exchange is made
# when its head is here, so that no call leads to these states.
_BEFORE = {"HEAD": "BODY", "WHOLE": "DONE", "CLOST": "LOST"}


@pytest.mark.parametrize("response", ResponseState)
@pytest.mark.parametrize("name", EVENTS)
def test_every_event_before_there_is_a_head(response: ResponseState, name: str) -> None:
    exchange = new_exchange()
    exchange._state = RequestState.WAIT_HEAD * len(ResponseState) + response
    before = state_of(exchange)
    assert before == f"WAIT_HEAD/{response.name}"
    if name in _BEFORE:
        exchange.happened(EVENTS[name])
        assert state_of(exchange) == f"{_BEFORE[name]}/{response.name}"
    else:
        with pytest.raises(ExchangeError, match=f"{EVENTS[name].name} in {before}"):
            exchange.happened(EVENTS[name])
        assert state_of(exchange) == before


@pytest.mark.parametrize("complete", [True, False])
def test_an_exchange_begins_with_its_head_and_nothing_else(complete: bool) -> None:
    request = new_request(b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: abc\r\n\r\n")
    exchange = Exchange(request, 7.5, complete=complete)
    assert exchange.request is request
    assert exchange.request_id == b"abc"
    assert exchange.head_received == 7.5
    assert (exchange.upstream_ready, exchange.first_byte, exchange.end) == (0.0, 0.0, 0.0)
    assert exchange.end_reason is None
    assert exchange.endpoint is None
    assert exchange.slot == -1
    assert exchange.status == 0
    assert exchange.request_state is (RequestState.DONE if complete else RequestState.BODY)
    assert exchange.response_state is ResponseState.WAIT_HEAD
    assert exchange.is_request_complete is complete
    assert not exchange.is_committed


def test_without_an_id_of_the_client_there_is_none_yet() -> None:
    assert new_exchange().request_id is None


def test_a_get_that_is_answered() -> None:
    exchange = new_exchange(Event.RESPONSE_HEAD_RECEIVED)
    assert exchange.response_state is ResponseState.HELD
    assert not exchange.is_committed
    exchange.committed(200, 2.5)
    assert exchange.is_committed
    assert (exchange.status, exchange.first_byte) == (200, 2.5)
    assert exchange.response_ended() is True
    exchange.ended(EndReason.OK, 3.0)
    assert (exchange.end_reason, exchange.end) == (EndReason.OK, 3.0)
    # The stamps of what came before are kept.
    assert (exchange.head_received, exchange.first_byte) == (1.0, 2.5)


def test_a_response_may_overtake_its_request() -> None:
    exchange = new_exchange(complete=False)
    exchange.response_began(413, 2.0)
    assert exchange.response_ended() is False
    assert exchange.request_state is RequestState.BODY
    assert not exchange.is_request_complete
    exchange.happened(Event.REQUEST_RECEIVED)
    assert exchange.is_request_complete


def test_an_endpoint_that_is_lost_before_the_commit_is_replaced() -> None:
    for held in ([], [Event.RESPONSE_HEAD_RECEIVED]):
        exchange = new_exchange(*held, Event.UPSTREAM_LOST, Event.RETRIED)
        assert exchange.response_state is ResponseState.WAIT_HEAD
        exchange.response_began(200, 2.0)
        assert exchange.is_committed


@pytest.mark.parametrize("event", [Event.RETRIED, Event.COMMITTED])
def test_an_endpoint_that_is_lost_in_a_response_body_is_never_replaced(event: Event) -> None:
    exchange = new_exchange()
    exchange.response_began(200, 2.0)
    exchange.happened(Event.UPSTREAM_LOST)
    with pytest.raises(ExchangeError):
        exchange.happened(event)


def test_a_clock_may_start_at_zero() -> None:
    exchange = Exchange(new_request(), 0.0, complete=True)
    exchange.committed(200, 0.0)
    assert exchange.is_committed


def test_a_reply_of_our_own_needs_no_head_of_an_endpoint() -> None:
    for before in ([], [Event.UPSTREAM_LOST], [Event.RESPONSE_HEAD_RECEIVED, Event.UPSTREAM_LOST]):
        exchange = new_exchange(*before)
        exchange.committed(502, 2.0)
        assert exchange.response_ended() is True
        assert exchange.status == 502


def test_nothing_can_be_committed_twice() -> None:
    exchange = new_exchange()
    exchange.committed(200, 2.0)
    with pytest.raises(ExchangeError):
        exchange.committed(500, 3.0)
    with pytest.raises(ExchangeError):
        exchange.response_began(500, 3.0)
    assert (exchange.status, exchange.first_byte) == (200, 2.0)


@pytest.mark.parametrize("state", STATES)
def test_it_ends_exactly_once_wherever_it_stands(state: str) -> None:
    exchange = at(WAYS[state])
    exchange.ended(EndReason.CLIENT_GONE, 4.0)
    with pytest.raises(ExchangeError, match=r"client_gone.*ok"):
        exchange.ended(EndReason.OK, 5.0)
    assert (exchange.end_reason, exchange.end) == (EndReason.CLIENT_GONE, 4.0)
