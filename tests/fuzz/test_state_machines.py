"""Exchange, pool, set-aside, round robin and deadlines beside simple models of them."""

from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lb.balancer.round_robin import RoundRobin
from lb.deadline import NEVER, Deadlines
from lb.endpoint import Endpoint, Snapshot, make_endpoint
from lb.errors import EndReason
from lb.exchange import Event, Exchange, ExchangeError, RequestState, ResponseState
from lb.health.set_aside import SetAside
from lb.http1.forwarding import prepare_request
from lb.http1.head import HeadLimits, HeadParser
from lb.pool import Pool

ENDPOINTS = tuple(make_endpoint(f"10.0.0.{number}", 80, name=name) for number, name in enumerate("abcd", 1))
ENDPOINT = st.sampled_from(ENDPOINTS)
# Exact in binary, so that the model and the code meet at the same instants.
STEP = st.sampled_from([0.0, 0.125, 0.5, 1.0, 2.0, 4.0, 31.0])
MODEST = settings(max_examples=40, stateful_step_count=30)

REQUEST = prepare_request(HeadParser(HeadLimits()).request(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"))


class ExchangeMachine(RuleBasedStateMachine):
    """The model is what happened, in plain words."""

    @initialize(complete=st.booleans())
    def begin(self, complete: bool) -> None:
        self.exchange = Exchange(REQUEST, 1.0, complete=complete)
        self.complete = complete
        self.client_gone = self.held = self.committed = self.responded = self.upstream_gone = False
        self.ended = False

    def check(self, event: Event, allowed: bool) -> bool:
        """Let `event` happen; is it refused exactly if it makes no sense?"""
        if allowed:
            self.exchange.happened(event)
        else:
            with pytest.raises(ExchangeError, match=event.name):
                self.exchange.happened(event)
        return allowed

    @rule()
    def request_completes(self) -> None:
        if self.check(Event.REQUEST_RECEIVED, not (self.complete or self.client_gone)):
            self.complete = True

    @rule()
    def client_goes(self) -> None:
        if self.check(Event.CLIENT_LOST, not self.client_gone):
            self.client_gone = True

    @rule()
    def head_is_held(self) -> None:
        allowed = not (self.client_gone or self.held or self.committed or self.upstream_gone)
        if self.check(Event.RESPONSE_HEAD_RECEIVED, allowed):
            self.held = True

    @rule()
    def commits(self) -> None:
        if self.check(Event.COMMITTED, not (self.client_gone or self.committed)):
            self.committed, self.upstream_gone = True, False

    @rule()
    def response_completes(self) -> None:
        allowed = self.committed and not (self.client_gone or self.responded or self.upstream_gone)
        if self.check(Event.RESPONSE_ENDED, allowed):
            self.responded = True

    @rule()
    def upstream_goes(self) -> None:
        if self.check(Event.UPSTREAM_LOST, not (self.responded or self.upstream_gone)):
            self.upstream_gone, self.held = True, False

    @rule()
    def is_retried(self) -> None:
        if self.check(Event.RETRIED, self.upstream_gone and not (self.client_gone or self.committed)):
            self.upstream_gone = False

    @rule(reason=st.sampled_from(EndReason))
    def ends(self, reason: EndReason) -> None:
        if self.ended:
            with pytest.raises(ExchangeError, match="twice"):
                self.exchange.ended(reason, 9.0)
        else:
            self.exchange.ended(reason, 9.0)
            self.ended = True

    @invariant()
    def the_states_say_the_same(self) -> None:
        request = RequestState.BODY
        if self.client_gone:
            request = RequestState.LOST
        elif self.complete:
            request = RequestState.DONE
        assert self.exchange.request_state is request
        response = ResponseState.WAIT_HEAD
        if self.upstream_gone:
            response = ResponseState.CUT if self.committed else ResponseState.LOST
        elif self.responded:
            response = ResponseState.DONE
        elif self.committed:
            response = ResponseState.BODY
        elif self.held:
            response = ResponseState.HELD
        assert self.exchange.response_state is response
        assert (self.exchange.end_reason is not None) is self.ended


class Connection:
    """Stands in for an upstream connection."""

    def __init__(self) -> None:
        self.idle_since = -1.0
        self.is_usable = True


class PoolMachine(RuleBasedStateMachine):
    """The model is one list of all that idle, in the order in which they came."""

    TIMEOUT, MAX_IDLE = 4.0, 3

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.pool: Pool[Connection] = Pool(idle_timeout=self.TIMEOUT, max_idle=self.MAX_IDLE)
        self.idle: list[tuple[Endpoint, Connection, float]] = []
        self.out: list[tuple[Endpoint, Connection]] = []
        self.here: set[Endpoint] = set(ENDPOINTS)

    def of(self, endpoint: Endpoint) -> list[tuple[Endpoint, Connection, float]]:
        return [entry for entry in self.idle if entry[0] is endpoint]

    @rule(step=STEP)
    def time_passes(self, step: float) -> None:
        self.now += step

    @rule(endpoint=ENDPOINT)
    def connects(self, endpoint: Endpoint) -> None:
        self.out.append((endpoint, Connection()))

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def checks_in(self, data: st.DataObject) -> None:
        endpoint, connection = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        kept = self.pool.checkin(endpoint.key, connection, self.now)
        assert kept is (endpoint in self.here and len(self.of(endpoint)) < self.MAX_IDLE)
        if kept:
            self.idle.append((endpoint, connection, self.now))

    @rule(endpoint=ENDPOINT)
    def checks_out(self, endpoint: Endpoint) -> None:
        expected = None
        for entry in reversed(self.of(endpoint)):
            if not entry[1].is_usable:
                self.idle.remove(entry)
                continue
            if self.now - entry[2] < self.TIMEOUT:
                expected = entry[1]
                self.idle.remove(entry)
                self.out.append((endpoint, expected))
            break
        assert self.pool.checkout(endpoint.key, self.now) is expected

    @precondition(lambda self: self.idle)
    @rule(data=st.data(), forgotten=st.booleans())
    def is_closed_from_the_other_side(self, data: st.DataObject, forgotten: bool) -> None:
        entry = data.draw(st.sampled_from(self.idle))
        entry[1].is_usable = False
        if forgotten:
            self.pool.forget(entry[0].key, entry[1])
            self.idle.remove(entry)

    @rule()
    def expires(self) -> None:
        old = [entry for entry in self.idle if self.now - entry[2] >= self.TIMEOUT]
        assert {*self.pool.expire(self.now)} == {entry[1] for entry in old}
        self.idle = [entry for entry in self.idle if entry not in old]

    @rule(endpoint=ENDPOINT)
    def discards(self, endpoint: Endpoint) -> None:
        assert self.pool.discard(endpoint.key) == [entry[1] for entry in self.of(endpoint)]
        self.idle = [entry for entry in self.idle if entry[0] is not endpoint]

    @rule(kept=st.sets(ENDPOINT))
    def retains(self, kept: set[Endpoint]) -> None:
        gone = [entry for entry in self.idle if entry[0] not in kept]
        self.here = kept
        assert {*self.pool.retain(endpoint.key for endpoint in kept)} == {entry[1] for entry in gone}
        self.idle = [entry for entry in self.idle if entry not in gone]

    @invariant()
    def as_many_idle_as_were_left(self) -> None:
        for endpoint in ENDPOINTS:
            assert self.pool.count(endpoint.key) == len(self.of(endpoint))


class SetAsideMachine(RuleBasedStateMachine):
    """The model: until when each endpoint is out, for how long it was set aside, and whether a request tries it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.set_aside = SetAside()
        self.snapshot: Snapshot = ENDPOINTS
        self.until: dict[Endpoint, float] = {}
        self.seconds: dict[Endpoint, float] = {}
        self.trying: dict[Endpoint, int] = {}

    def forget(self, endpoint: Endpoint) -> None:
        self.until.pop(endpoint, None)
        self.seconds.pop(endpoint, None)
        self.trying.pop(endpoint, None)

    @rule(step=STEP)
    def time_passes(self, step: float) -> None:
        self.now += step

    @rule(endpoint=ENDPOINT)
    def is_picked(self, endpoint: Endpoint) -> None:
        trial = endpoint in self.until and endpoint not in self.trying and self.until[endpoint] <= self.now
        number = self.set_aside.picked(endpoint.key, self.now)
        assert bool(number) is trial
        if trial:
            assert number not in self.trying.values()
            self.trying[endpoint] = number

    @rule(endpoint=ENDPOINT)
    def connect_fails(self, endpoint: Endpoint) -> None:
        first = endpoint not in self.until
        assert self.set_aside.connect_failed(endpoint.key, self.now, trial=0) is first
        if first:
            self.until[endpoint], self.seconds[endpoint] = self.now + 1.0, 1.0

    @precondition(lambda self: self.trying)
    @rule(data=st.data())
    def trial_fails(self, data: st.DataObject) -> None:
        endpoint = data.draw(st.sampled_from(sorted(self.trying)))
        assert self.set_aside.connect_failed(endpoint.key, self.now, trial=self.trying.pop(endpoint)) is True
        self.seconds[endpoint] = min(2 * self.seconds[endpoint], 30.0)
        self.until[endpoint] = self.now + self.seconds[endpoint]

    @precondition(lambda self: self.trying)
    @rule(data=st.data())
    def trial_is_abandoned(self, data: st.DataObject) -> None:
        endpoint = data.draw(st.sampled_from(sorted(self.trying)))
        self.set_aside.trial_abandoned(endpoint.key, self.now, self.trying.pop(endpoint))

    @rule(endpoint=ENDPOINT)
    def connect_succeeds(self, endpoint: Endpoint) -> None:
        assert self.set_aside.connected(endpoint.key, self.now) is (endpoint in self.until)
        self.forget(endpoint)

    @rule(states=st.tuples(*[st.sampled_from(["ready", "not ready", "gone"])] * len(ENDPOINTS)))
    def snapshot_comes(self, states: tuple[str, ...]) -> None:
        old = {endpoint.key: endpoint.ready for endpoint in self.snapshot}
        new = tuple(
            endpoint._replace(ready=state == "ready")
            for endpoint, state in zip(ENDPOINTS, states, strict=True)
            if state != "gone"
        )
        self.set_aside.replace(self.snapshot, new, self.now)
        self.snapshot = new
        for endpoint, state in zip(ENDPOINTS, states, strict=True):
            if state == "gone" or (state == "ready" and not old.get(endpoint.key, False)):
                self.forget(endpoint)

    @invariant()
    def the_same_are_out(self) -> None:
        expected = {endpoint for endpoint in self.until if endpoint in self.trying or self.now < self.until[endpoint]}
        assert self.set_aside.out(self.now) == {endpoint.key for endpoint in expected}
        returns = [self.until[endpoint] for endpoint in expected - self.trying.keys()]
        assert self.set_aside.next_return(self.now) == min(returns, default=None)
        assert self.set_aside.is_empty is (not self.until)
        assert {*self.set_aside.soonest_first()} == {endpoint.key for endpoint in self.until}
        for endpoint in ENDPOINTS:
            state, seconds = self.set_aside.state(endpoint, self.now)
            assert (state == "available") is (endpoint not in self.until)
            assert (state == "on trial") is (endpoint in self.trying)
            assert seconds == (max(self.until[endpoint] - self.now, 0.0) if state == "set aside" else 0.0)


class RoundRobinMachine(RuleBasedStateMachine):
    """The model is the rotation itself: a list whose first member is next."""

    @initialize(offset=st.integers(0, 10))
    def begin(self, offset: int) -> None:
        self.policy = RoundRobin(ENDPOINTS, offset=offset)
        at = offset % len(ENDPOINTS)
        self.rotation = [*ENDPOINTS[at:], *ENDPOINTS[:at]]

    @rule(excluding=st.sets(ENDPOINT))
    def picks(self, excluding: set[Endpoint]) -> None:
        at = next((at for at, endpoint in enumerate(self.rotation) if endpoint not in excluding), None)
        picked = self.policy.pick(None, {endpoint.key for endpoint in excluding}, 0.0)
        assert picked == (None if at is None else self.rotation[at])
        if at is not None:
            self.rotation = [*self.rotation[at + 1 :], *self.rotation[: at + 1]]

    @rule(after=ENDPOINT, excluding=st.sets(ENDPOINT))
    def picks_again(self, after: Endpoint, excluding: set[Endpoint]) -> None:
        at = self.rotation.index(after) + 1 if after in self.rotation else 0
        order = [*self.rotation[at:], *self.rotation[:at]]
        expected = next((endpoint for endpoint in order if endpoint not in excluding), None)
        assert self.policy.pick_again(after.key, {endpoint.key for endpoint in excluding}) == expected

    @rule(snapshot=st.permutations(ENDPOINTS), count=st.integers(0, len(ENDPOINTS)))
    def snapshot_comes(self, snapshot: list[Endpoint], count: int) -> None:
        new = snapshot[:count]
        survivors = [endpoint for endpoint in self.rotation if endpoint in new]
        self.policy.replace(tuple(new))
        if survivors:
            at = new.index(survivors[0])
        else:
            # Nobody's turn is kept: it goes on somewhere, and from there in order.
            at = 0
            if new:
                first = self.policy.pick(None, (), 0.0)
                assert first is not None
                at = (new.index(first) + 1) % len(new)
        self.rotation = [*new[at:], *new[:at]]


class Timed:
    """Has a deadline, and notes when it was told."""

    def __init__(self) -> None:
        self.deadline = self.filed = NEVER
        self.told: float | None = None

    def deadline_passed(self, now: float) -> None:
        assert self.told is None, "told twice"
        self.told, self.deadline = now, NEVER


class DeadlineMachine(RuleBasedStateMachine):
    """The model: everything whose deadline is at least a tick old was told, and nothing whose deadline is to come."""

    RESOLUTION = 0.125

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.deadlines = Deadlines(self.RESOLUTION)
        self.all = [Timed() for _ in range(4)]
        self.due: dict[Timed, float] = {}

    @rule(which=st.integers(0, 3), seconds=st.sampled_from([0.0, 0.0625, 0.1, 0.3, 1.0, 5.0, 60.0, math.inf]))
    def sets_a_deadline(self, which: int, seconds: float) -> None:
        timed = self.all[which]
        timed.deadline, timed.told = self.now + seconds, None
        self.due.pop(timed, None)
        if timed.deadline < NEVER:
            self.due[timed] = timed.deadline
        if timed.deadline < timed.filed:
            self.deadlines.file(timed)

    @rule(which=st.integers(0, 3))
    def is_removed(self, which: int) -> None:
        timed = self.all[which]
        self.deadlines.remove(timed)
        timed.deadline = NEVER
        self.due.pop(timed, None)

    @rule(step=st.sampled_from([0.0625, 0.125, 0.5, 7.0]))
    def time_passes(self, step: float) -> None:
        self.now += step
        told = self.deadlines.expire(self.now)
        for timed, deadline in list(self.due.items()):
            if timed.told is not None:
                assert deadline <= timed.told == self.now
                told -= 1
                del self.due[timed]
            else:
                assert self.now < deadline + self.RESOLUTION
        assert told == 0

    @invariant()
    def the_next_tick_is_soon_enough(self) -> None:
        if self.due:
            assert self.deadlines.next_tick() <= min(self.due.values()) + self.RESOLUTION


TestExchange = ExchangeMachine.TestCase
TestPool = PoolMachine.TestCase
TestSetAside = SetAsideMachine.TestCase
TestRoundRobin = RoundRobinMachine.TestCase
TestDeadlines = DeadlineMachine.TestCase
for _case in (TestExchange, TestPool, TestSetAside, TestRoundRobin, TestDeadlines):
    _case.settings = MODEST
