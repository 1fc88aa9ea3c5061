"""The endpoint took the request and failed it (a 503, or no answer in time): may it go elsewhere, and to whom?

Rule 7 of `lb.attempts`, every condition by itself.
"""

from __future__ import annotations

import pytest

from lb.attempts import Failure, HeldBody, Next, RetryRules
from tests.test_attempts import HEAD_RECEIVED, RULES, A, B, C, D, Service, name, request

BOTH = RULES._replace(on_503=True, on_timeout=True)


@pytest.mark.parametrize("failure", Failure)
class TestTheEndpointFailedIt:
    """Rule 7."""

    def test_it_goes_on_at_the_next_in_rotation(self, failure: Failure) -> None:
        service = Service(rules=BOTH)
        assert service.elsewhere(B, failure) == "c"
        assert service.elsewhere(C, failure) == "a"

    def test_only_if_it_is_asked_for(self, failure: Failure) -> None:
        for on_503 in (False, True):
            for on_timeout in (False, True):
                service = Service(rules=RULES._replace(on_503=on_503, on_timeout=on_timeout))
                is_asked_for = on_503 if failure is Failure.UNAVAILABLE else on_timeout
                assert service.elsewhere(A, failure) == ("b" if is_asked_for else None)

    def test_by_default_it_is_not(self, failure: Failure) -> None:
        assert Service(rules=RetryRules()).elsewhere(A, failure) is None

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
    def test_idempotent_methods_do(self, method: str, failure: Failure) -> None:
        assert Service(rules=BOTH).elsewhere(A, failure, request(method)) == "b"

    @pytest.mark.parametrize("method", ["POST", "PATCH", "LOCK"])
    def test_others_do_not(self, method: str, failure: Failure) -> None:
        assert Service(rules=BOTH).elsewhere(A, failure, request(method)) is None

    @pytest.mark.parametrize("retries", [0, 1, 2])
    def test_at_most_retries_times(self, retries: int, failure: Failure) -> None:
        service = Service(A, B, C, D, rules=BOTH._replace(retries=retries))
        assert [service.elsewhere(e, failure) for e in (A, B, C)[:retries]] == ["b", "c", "d"][:retries]
        assert service.elsewhere((A, B, C)[retries], failure) is None

    def test_connections_that_died_count_against_the_same_retries(self, failure: Failure) -> None:
        service = Service(A, B, C, D, rules=BOTH)
        assert service.lost(A) is Next.TRY
        assert service.elsewhere(B, failure) == "c"
        assert service.elsewhere(C, failure) is None
        assert service.lost(C) is Next.ANSWER

    def test_failed_connects_do_not(self, failure: Failure) -> None:
        service = Service(A, B, C, D, rules=BOTH._replace(retries=1))
        service.connect_failed(A)
        service.connect_failed(B)
        assert service.elsewhere(C, failure) == "d"

    def test_one_that_is_refused_uses_up_nothing(self, failure: Failure) -> None:
        service = Service(A, rules=BOTH._replace(retries=1))
        assert service.elsewhere(A, failure) is None
        assert service.attempts.count == 0
        service.policy.replace((A, B))
        assert service.elsewhere(A, failure) == "b"
        assert service.attempts.count == 1

    def test_the_body_must_still_be_held(self, failure: Failure) -> None:
        body = HeldBody(10)
        body.add(b"0123456789", sent=True)
        assert Service(rules=BOTH).elsewhere(A, failure, request("PUT"), body=body) == "b"
        body.add(b"x", sent=True)
        assert Service(rules=BOTH).elsewhere(A, failure, request("PUT"), body=body) is None

    def test_never_at_one_that_was_tried_in_whatever_way(self, failure: Failure) -> None:
        service = Service(A, B, C, D, rules=BOTH._replace(retries=9))
        service.attempts.connect_failed(A.key)
        service.lost(B)
        service.lost(C, reused=True)
        assert service.elsewhere(D, failure) is None

    def test_each_once(self, failure: Failure) -> None:
        service = Service(A, B, C, rules=BOTH._replace(retries=9))
        assert [service.elsewhere(e, failure) for e in (A, B, C)] == ["b", "c", None]

    def test_never_at_one_that_is_set_aside(self, failure: Failure) -> None:
        service = Service(rules=BOTH)
        service.put_aside(B)
        assert service.elsewhere(A, failure) == "c"
        assert service.elsewhere(C, failure) is None
        assert service.elsewhere(C, failure, at=HEAD_RECEIVED + 1) == "b", "its time is over"

    def test_an_endpoint_that_left_is_not_chosen_and_one_that_is_new_is(self, failure: Failure) -> None:
        service = Service(A, B, rules=BOTH)
        service.policy.replace((A, D))
        assert service.elsewhere(A, failure) == "d"

    def test_the_turn_of_others_does_not_move(self, failure: Failure) -> None:
        service = Service(rules=BOTH)
        assert name(service.policy.pick(None, (), HEAD_RECEIVED)) == "a"
        assert service.elsewhere(A, failure) == "b"
        assert name(service.policy.pick(None, (), HEAD_RECEIVED)) == "b"

    def test_the_time_for_finding_a_connection_begins_anew(self, failure: Failure) -> None:
        """It took its time to fail; without this a connect that fails then would be the end."""
        service = Service(rules=BOTH)
        assert service.elsewhere(A, failure, at=HEAD_RECEIVED + 60) == "b"
        service.connect_failed(B, at=HEAD_RECEIVED + 61)
        assert service.choose(HEAD_RECEIVED + 61) == "c"
        assert service.attempts.may_start(HEAD_RECEIVED + 64)
        assert not service.attempts.may_start(HEAD_RECEIVED + 64.1)

    def test_it_waits_for_nobody(self, failure: Failure) -> None:
        service = Service(rules=BOTH)
        assert service.elsewhere(A, failure, at=HEAD_RECEIVED + 60) == "b"
        assert service.attempts.wait_deadline == HEAD_RECEIVED + 60

    def test_it_is_not_asked_again_when_the_others_cannot_be_reached(self, failure: Failure) -> None:
        service = Service(A, B, rules=BOTH)
        assert service.elsewhere(A, failure) == "b"
        service.connect_failed(B)
        assert service.choose() is None
        assert service.choose_returned(HEAD_RECEIVED) is None
        assert service.choose_returned(HEAD_RECEIVED + 1.0) == "b", "it has returned"

    def test_nor_when_their_connections_die(self, failure: Failure) -> None:
        service = Service(A, B, rules=BOTH)
        assert service.elsewhere(A, failure) == "b"
        assert service.lost(B) is Next.TRY
        assert service.choose() == "b", "for it may be back"

    def test_nor_when_it_was_set_aside_since(self, failure: Failure) -> None:
        service = Service(A, B, rules=BOTH)
        assert service.elsewhere(A, failure) == "b"
        service.put_aside(A)
        service.connect_failed(B)
        assert service.choose() is None

    def test_but_not_if_there_is_no_other(self, failure: Failure) -> None:
        service = Service(A, rules=BOTH)
        assert service.elsewhere(A, failure, at=HEAD_RECEIVED + 60) is None
        assert service.attempts.wait_deadline == HEAD_RECEIVED + 3


def test_the_words_for_the_log() -> None:
    assert [failure.value for failure in Failure] == ["answered 503", "did not answer in time"]
