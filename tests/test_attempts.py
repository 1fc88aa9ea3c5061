"""When another endpoint may be tried, and which: every rule by itself."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from lb.attempts import Attempts, Failure, HeldBody, Next, RetryRules
from lb.balancer.round_robin import RoundRobin
from lb.config import Config
from lb.endpoint import Endpoint, make_endpoint
from lb.health.set_aside import SetAside
from lb.http1.forwarding import Request, prepare_request
from lb.http1.head import HeadLimits, HeadParser

A, B, C, D = (make_endpoint(f"10.0.0.{number}", 80, name=name) for number, name in enumerate("abcd", 1))
RULES = RetryRules(retries=2, body_limit=10, endpoint_wait=3.0, connect_timeout=1.0)
HEAD_RECEIVED = 100.0


def request(method: str) -> Request:
    raw = f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    return prepare_request(HeadParser(HeadLimits()).request(raw))


GET, POST = request("GET"), request("POST")


class Service:
    """Three endpoints, and what is known of them."""

    def __init__(self, *endpoints: Endpoint, rules: RetryRules = RULES) -> None:
        self.policy = RoundRobin(endpoints or (A, B, C))
        self.set_aside = SetAside()
        self.attempts = Attempts(rules, HEAD_RECEIVED)

    def put_aside(self, *endpoints: Endpoint, at: float = HEAD_RECEIVED) -> None:
        """Connects of other requests failed."""
        for endpoint in endpoints:
            self.set_aside.connect_failed(endpoint.key, at, trial=0)

    def choose(self, at: float = HEAD_RECEIVED) -> str | None:
        return name(self.attempts.choose(self.policy, self.set_aside, at))

    def choose_returned(self, at: float) -> str | None:
        return name(self.attempts.choose_returned(self.policy, self.set_aside, at))

    def connect_failed(self, endpoint: Endpoint, at: float = HEAD_RECEIVED) -> Next:
        """A connect of this request failed."""
        self.set_aside.connect_failed(endpoint.key, at, trial=0)
        return self.attempts.connect_failed(endpoint.key)

    def lost(
        self,
        endpoint: Endpoint,
        what: Request = GET,
        *,
        reused: bool = False,
        written: bool = True,
        body: HeldBody | None = None,
    ) -> Next:
        return self.attempts.lost(endpoint.key, what, reused=reused, written=written, body=body)

    def elsewhere(
        self,
        endpoint: Endpoint,
        failure: Failure = Failure.UNAVAILABLE,
        what: Request = GET,
        *,
        body: HeldBody | None = None,
        at: float = HEAD_RECEIVED,
    ) -> str | None:
        """The endpoint answered 503, or did not answer in time."""
        attempts = self.attempts
        return name(attempts.elsewhere(endpoint.key, what, failure, body, self.policy, self.set_aside, at))

    def exhaust(self) -> Iterable[str]:
        """Let the connect to every endpoint that is chosen fail; return which were, in order."""
        while (chosen := self.choose()) is not None:
            yield chosen
            self.connect_failed({"a": A, "b": B, "c": C, "d": D}[chosen])


def name(endpoint: Endpoint | None) -> str | None:
    return None if endpoint is None else endpoint.name


class TestNothingWasSent:
    """Rule 1."""

    def test_a_failed_connect_goes_on(self) -> None:
        assert Service().connect_failed(A) is Next.TRY

    def test_it_does_not_count_against_retries(self) -> None:
        service = Service(rules=RULES._replace(retries=1))
        for _ in range(10):
            assert service.connect_failed(A) is Next.TRY
        assert service.lost(B) is Next.TRY
        assert service.lost(C) is Next.ANSWER
        assert service.connect_failed(A) is Next.TRY

    def test_nor_does_a_connection_that_was_dead_before_anything_was_written(self) -> None:
        service = Service(rules=RULES._replace(retries=0))
        for _ in range(5):
            assert service.lost(A, reused=True, written=False) is Next.TRY

    @pytest.mark.parametrize("reused", [True, False])
    @pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
    def test_any_method_goes_on(self, method: str, reused: bool) -> None:
        assert Service().lost(A, request(method), reused=reused, written=False) is Next.TRY

    def test_it_can_be_switched_off(self) -> None:
        assert Service(rules=RULES._replace(on_connect=False)).connect_failed(A) is Next.ANSWER

    def test_failed_attempts_are_counted(self) -> None:
        service = Service()
        assert service.attempts.count == 0
        service.connect_failed(A)
        service.lost(B)
        service.lost(C, reused=True, written=False)
        assert service.attempts.count == 3


class TestBytesWereWritten:
    """Rule 2."""

    @pytest.mark.parametrize("reused", [True, False])
    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
    def test_idempotent_methods_go_on(self, method: str, reused: bool) -> None:
        assert Service().lost(A, request(method), reused=reused) is Next.TRY

    @pytest.mark.parametrize("reused", [True, False])
    @pytest.mark.parametrize("method", ["POST", "PATCH", "LOCK"])
    def test_others_are_never_sent_twice(self, method: str, reused: bool) -> None:
        assert Service().lost(A, request(method), reused=reused) is Next.ANSWER

    @pytest.mark.parametrize("retries", [0, 1, 2, 5])
    def test_at_most_retries_times(self, retries: int) -> None:
        service = Service(rules=RULES._replace(retries=retries))
        for _ in range(retries):
            assert service.lost(A) is Next.TRY
        assert service.lost(A) is Next.ANSWER

    def test_the_body_must_still_be_held(self) -> None:
        body = HeldBody(10)
        body.add(b"0123456789", sent=True)
        assert Service().lost(A, request("PUT"), body=body) is Next.TRY
        body.add(b"x", sent=True)
        assert Service().lost(A, request("PUT"), body=body) is Next.ANSWER

    def test_it_can_be_switched_off(self) -> None:
        service = Service(rules=RULES._replace(on_reset=False))
        assert service.lost(A) is Next.ANSWER
        assert service.lost(A, written=False) is Next.TRY


@pytest.mark.parametrize("written", [True, False])
def test_a_body_that_is_no_longer_held_is_never_sent_again(written: bool) -> None:
    body = HeldBody(0)
    body.add(b"x", sent=True)
    for method in ("PUT", "POST"):
        assert Service().lost(A, request(method), reused=True, written=written, body=body) is Next.ANSWER


class TestWhoIsNext:
    """Rule 4."""

    def test_the_next_in_rotation_behind_the_one_that_failed(self) -> None:
        service = Service()
        service.connect_failed(B)
        assert service.choose() == "c"
        service.connect_failed(C)
        assert service.choose() == "a"

    def test_so_too_behind_one_whose_connection_died(self) -> None:
        for reused in (True, False):
            service = Service()
            service.lost(B, reused=reused)
            assert service.choose() == "c"

    def test_a_request_for_which_nothing_was_tried_begins_with_whose_turn_it_is(self) -> None:
        service = Service()
        service.policy.pick(None, (), HEAD_RECEIVED)
        assert service.choose() == "b"

    def test_the_turn_of_others_does_not_move(self) -> None:
        service = Service()
        assert name(service.policy.pick(None, (), HEAD_RECEIVED)) == "a"
        assert list(service.exhaust()) == ["b", "c", "a"]
        assert name(service.policy.pick(None, (), HEAD_RECEIVED)) == "b"

    def test_those_set_aside_are_passed_over_while_there_are_others(self) -> None:
        service = Service()
        service.put_aside(B)
        service.lost(A)
        assert service.choose() == "c"

    def test_those_set_aside_are_tried_last_the_soonest_to_return_first(self) -> None:
        service = Service(A, B, C, D)
        service.put_aside(C, at=HEAD_RECEIVED - 0.5)
        service.put_aside(D, at=HEAD_RECEIVED - 0.7)
        service.put_aside(B, at=HEAD_RECEIVED - 0.1)
        service.lost(A)
        # And at the very end the one of which a connection died: it may be back.
        assert list(service.exhaust()) == ["d", "c", "b", "a"]

    def test_each_once(self) -> None:
        service = Service()
        service.put_aside(A, B, C)
        assert sorted(service.exhaust()) == ["a", "b", "c"]
        assert service.choose() is None

    def test_an_endpoint_whose_new_connection_died_is_tried_again_at_the_very_end(self) -> None:
        service = Service(A, B, C)
        service.put_aside(C)
        assert service.lost(A) is Next.TRY
        assert service.choose() == "b"
        assert service.lost(B) is Next.TRY
        assert service.choose() == "c"
        service.connect_failed(C)
        assert service.choose() == "a"
        # As often as `retries` allows.
        assert service.lost(A) is Next.ANSWER

    def test_an_endpoint_whose_pooled_connection_died_is_tried_again_when_no_other_is_left(self) -> None:
        service = Service(A, B)
        service.lost(A, reused=True)
        assert service.choose() == "b"
        service.lost(B)
        assert service.choose() == "a"

    def test_but_only_then_even_if_the_rotation_comes_by_it_sooner(self) -> None:
        service = Service(A, B, C)
        service.lost(A, reused=True)
        service.lost(B)
        service.policy.replace((B, A, C))
        assert service.choose() == "c"
        service.lost(C)
        assert service.choose() == "a"

    def test_it_is_tried_again_before_those_that_are_set_aside(self) -> None:
        service = Service(A, B)
        service.put_aside(B)
        service.lost(A, reused=True)
        assert service.choose() == "a"
        service.lost(A)
        assert service.choose() == "b"

    def test_but_not_if_it_was_set_aside_meanwhile(self) -> None:
        service = Service(A, B)
        service.put_aside(B, at=HEAD_RECEIVED - 0.5)
        service.lost(A, reused=True)
        service.put_aside(A)
        assert service.choose() == "b"
        service.connect_failed(B)
        assert service.choose() == "a"

    def test_the_only_endpoint_is_tried_on_a_new_connection(self) -> None:
        service = Service(A)
        service.lost(A, reused=True)
        assert service.choose() == "a"
        service.connect_failed(A)
        assert service.choose() is None

    def test_endpoints_that_left_are_not_chosen(self) -> None:
        service = Service(A, B, C)
        service.put_aside(C)
        service.lost(A, reused=True)
        service.policy.replace((B,))
        assert service.choose() == "b"
        service.connect_failed(B)
        assert service.choose() is None

    def test_one_that_left_does_not_hide_the_others_that_are_set_aside(self) -> None:
        service = Service(A, B, C)
        service.put_aside(C, at=HEAD_RECEIVED - 0.5)
        service.put_aside(B)
        service.policy.replace((B,))
        assert service.choose() == "b"

    def test_without_endpoints_there_is_none(self) -> None:
        service = Service()
        service.policy.replace(())
        assert service.choose() is None
        assert service.choose_returned(HEAD_RECEIVED + 1) is None


class TestWaiting:
    """Rule 5."""

    def exhausted(self, *endpoints: Endpoint) -> Service:
        service = Service(*endpoints)
        list(service.exhaust())
        return service

    def test_while_all_are_set_aside_it_goes_on_waiting(self) -> None:
        service = self.exhausted()
        assert service.choose_returned(HEAD_RECEIVED) is None
        assert service.choose_returned(HEAD_RECEIVED + 0.999) is None

    def test_one_that_returns_is_taken(self) -> None:
        service = self.exhausted(A, B)
        service.put_aside(A, B)
        service.set_aside.connected(A.key, HEAD_RECEIVED + 0.5)
        assert service.choose_returned(HEAD_RECEIVED + 0.5) == "a"

    def test_one_whose_time_is_over_is_taken(self) -> None:
        assert self.exhausted(A).choose_returned(HEAD_RECEIVED + 1.0) == "a"

    def test_of_several_the_one_whose_turn_it_is(self) -> None:
        """Not all that wait the same one: hundreds may."""
        service = Service()
        service.connect_failed(A)
        service.connect_failed(B)
        assert [service.choose_returned(HEAD_RECEIVED + 1.0) for _ in range(4)] == ["a", "b", "c", "a"]

    def test_one_that_is_on_trial_is_not(self) -> None:
        service = self.exhausted(A)
        assert service.set_aside.picked(A.key, HEAD_RECEIVED + 1.0)
        assert service.choose_returned(HEAD_RECEIVED + 1.0) is None

    def test_one_that_is_new_is_taken(self) -> None:
        service = self.exhausted(A)
        service.policy.replace((A, D))
        assert service.choose_returned(HEAD_RECEIVED + 0.1) == "d"

    def test_one_whose_connection_died_is_taken_when_it_is_back(self) -> None:
        service = Service(A)
        service.lost(A)
        assert service.choose() == "a"
        service.connect_failed(A)
        assert service.choose() is None
        assert service.choose_returned(HEAD_RECEIVED + 0.5) is None
        assert service.choose_returned(HEAD_RECEIVED + 1.0) == "a"

    def test_it_waits_until_endpoint_wait_after_its_head(self) -> None:
        assert Service().attempts.wait_deadline == 103.0
        assert Attempts(RULES._replace(endpoint_wait=0.5), 7.0).wait_deadline == 7.5


class TestTheLastMoment:
    """Rule 6."""

    def test_no_attempt_starts_later_than_endpoint_wait_and_one_connect_after_the_head(self) -> None:
        attempts = Service().attempts
        assert attempts.may_start(HEAD_RECEIVED)
        assert attempts.may_start(HEAD_RECEIVED + 4.0)
        assert not attempts.may_start(HEAD_RECEIVED + 4.001)

    def test_the_two_times_come_from_the_configuration(self) -> None:
        attempts = Attempts(RULES._replace(endpoint_wait=10.0, connect_timeout=0.5), 0.0)
        assert attempts.may_start(10.5)
        assert not attempts.may_start(10.6)

    def test_nothing_is_chosen_after_it(self) -> None:
        service = Service()
        assert service.choose(HEAD_RECEIVED + 4.0) == "a"
        assert service.choose(HEAD_RECEIVED + 4.001) is None
        assert service.choose_returned(HEAD_RECEIVED + 4.0) == "a"
        assert service.choose_returned(HEAD_RECEIVED + 4.001) is None


def test_the_defaults_are_those_of_the_configuration_table() -> None:
    config = Config()
    assert RetryRules() == RetryRules(
        retries=config.retries,
        on_connect="connect" in config.retry_on,
        on_reset="reset" in config.retry_on,
        on_503="503" in config.retry_on,
        on_timeout="timeout" in config.retry_on,
        body_limit=config.retry_body_limit,
        endpoint_wait=config.endpoint_wait,
        connect_timeout=config.connect_timeout,
    )
    assert RetryRules() == (2, True, True, False, False, 65536, 3.0, 1.0)
