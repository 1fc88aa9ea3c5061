"""The state of an endpoint with its reason and since when."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lb.endpoint import Endpoint, make_endpoint
from lb.health.states import STATES, State
from tests.test_service import NOW, new_service

A, B = (make_endpoint(f"10.0.0.{number}", 80, name=name, uid=name) for number, name in enumerate("ab", 1))
WHY = "connect refused"


def dark(endpoint: Endpoint) -> Endpoint:
    return endpoint._replace(ready=False)


def test_available_since_it_came() -> None:
    service = new_service(A)
    service.replace((A, B), NOW + 5)
    assert service.states.of(A, NOW + 7) == State("available", "", NOW, 0.0)
    assert service.states.of(B, NOW + 7) == State("available", "", NOW + 5, 0.0)


def test_set_aside_since_it_failed_first_and_available_since_it_came_back() -> None:
    service = new_service(A, B)
    service.connect_failed(A.key, NOW + 1, trial=0, why=WHY)
    assert service.states.of(A, NOW + 1.5) == State("set aside", WHY, NOW + 1, 0.5)
    trial = service.set_aside.picked(A.key, NOW + 2)
    assert service.states.of(A, NOW + 2) == State("on trial", WHY, NOW + 1, 0.0)
    service.connect_failed(A.key, NOW + 3, trial=trial, why="connect timed out")
    assert service.states.of(A, NOW + 3) == State("set aside", "connect timed out", NOW + 1, 2.0)
    service.connected(A.key, NOW + 9)
    assert service.states.of(A, NOW + 10) == State("available", "", NOW + 9, 0.0)


def test_not_ready_and_ready_again() -> None:
    service = new_service(A, B)
    service.replace((dark(A), B), NOW + 1)
    service.replace((dark(A), B), NOW + 2)
    assert service.states.of(dark(A), NOW + 3) == State("not ready", "", NOW + 1, 0.0)
    service.went_silent(A.key, NOW + 3, why="it acknowledges nothing any more")
    assert service.states.of(dark(A), NOW + 3) == State("not ready", "it acknowledges nothing any more", NOW + 1, 0.0)
    service.replace((A, B), NOW + 4)
    assert service.states.of(A, NOW + 5) == State("available", "", NOW + 4, 0.0)


def test_in_a_panic() -> None:
    service = new_service(A, B)
    service.replace(tuple(dark(one)._replace(was_ready=True) for one in (A, B)), NOW + 1)
    assert service.is_panicking
    used = service.snapshot[0]
    assert service.states.of(used, NOW + 2) == State("available", "not ready, but none is (panic)", NOW + 1, 0.0)


def test_one_that_left_is_forgotten() -> None:
    service = new_service(A, B)
    service.connect_failed(A.key, NOW, trial=0, why=WHY)
    service.replace((B,), NOW + 1)
    service.replace((A, B), NOW + 2)
    assert service.states.of(A, NOW + 3) == State("available", "", NOW + 2, 0.0)


ENDPOINT = st.sampled_from((A, B))


class StatesMachine(RuleBasedStateMachine):
    """Whatever happens: the word is that of the set-aside, and nothing began in the future or goes back."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.service = new_service(A, B)
        self.trying: dict[Endpoint, int] = {}
        self.seen: dict[Endpoint, State] = {}

    @rule(step=st.floats(0.0, 40.0))
    def time_passes(self, step: float) -> None:
        self.now += step

    @rule(endpoint=ENDPOINT)
    def is_picked(self, endpoint: Endpoint) -> None:
        self.trying[endpoint] = self.service.set_aside.picked(endpoint.key, self.now) or self.trying.get(endpoint, 0)

    @rule(endpoint=ENDPOINT)
    def fails(self, endpoint: Endpoint) -> None:
        trial = self.trying.pop(endpoint, 0)
        self.service.connect_failed(endpoint.key, self.now, trial=trial, why=WHY)

    @rule(endpoint=ENDPOINT)
    def connects(self, endpoint: Endpoint) -> None:
        self.service.connected(endpoint.key, self.now)

    @rule(ready=st.tuples(st.booleans(), st.booleans()))
    def is_published(self, ready: tuple[bool, bool]) -> None:
        self.service.replace(tuple(e._replace(ready=r) for e, r in zip((A, B), ready, strict=True)), self.now)

    @invariant()
    def it_adds_up(self) -> None:
        for endpoint in self.service.snapshot:
            state = self.service.states.of(endpoint, self.now)
            assert state.word in STATES
            if endpoint.ready:
                assert (state.word, state.seconds_left) == self.service.set_aside.state(endpoint, self.now)
                assert bool(state.reason) is (state.word != "available")
            else:
                assert state.word == "not ready"
            assert state.since <= self.now
            before = self.seen.get(A if endpoint.key == A.key else B)
            self.seen[A if endpoint.key == A.key else B] = state
            # It may go back from an outage that began before the endpoint turned not ready, and to it.
            if before is not None and before.word == state.word and state.word in ("available", "not ready"):
                assert state.since >= before.since


TestStates = StatesMachine.TestCase
