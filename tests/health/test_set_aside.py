"""Endpoints that are passed over after a failed connect."""

from __future__ import annotations

import pytest

from lb.endpoint import Endpoint, make_endpoint
from lb.health.set_aside import SetAside

ENDPOINTS = A, B, C = tuple(make_endpoint(f"10.0.0.{number}", 80) for number in (1, 2, 3))
NOW = 1000.0
JUST = 0.001


def not_ready(endpoint: Endpoint) -> Endpoint:
    return endpoint._replace(ready=False)


def out(set_aside: SetAside, now: float = NOW) -> list[Endpoint]:
    """Return who is passed over."""
    keys = set_aside.out(now)
    return [endpoint for endpoint in ENDPOINTS if endpoint.key in keys]


def with_failed(*endpoints: Endpoint, at: float = NOW) -> SetAside:
    set_aside = SetAside()
    for endpoint in endpoints:
        assert set_aside.connect_failed(endpoint.key, at, trial=0)
    return set_aside


def fail_trial(set_aside: SetAside, endpoint: Endpoint, now: float) -> None:
    trial = set_aside.picked(endpoint.key, now)
    assert trial
    assert set_aside.connect_failed(endpoint.key, now, trial=trial)


def test_at_first_all_are_available() -> None:
    set_aside = SetAside()
    assert set_aside.out(NOW) == set()
    assert set_aside.soonest_first() == []
    assert set_aside.next_return(NOW) is None
    assert set_aside.state(A, NOW) == ("available", 0.0)
    assert set_aside.picked(A.key, NOW) == 0


def test_whether_anything_is_set_aside_at_all() -> None:
    set_aside = SetAside()
    assert set_aside.is_empty
    set_aside.connect_failed(A.key, NOW, trial=0)
    set_aside.connect_failed(B.key, NOW, trial=0)
    assert not set_aside.is_empty
    # One whose time is over is not back yet: a request has to try it.
    assert set_aside.out(NOW + 5.0) == set()
    assert not set_aside.is_empty
    set_aside.connected(A.key, NOW + 5.0)
    assert not set_aside.is_empty
    set_aside.replace((B,), (), NOW + 5.0)
    assert set_aside.is_empty


def test_a_failed_connect_sets_aside_for_a_second() -> None:
    set_aside = with_failed(A)
    assert out(set_aside) == [A]
    assert out(set_aside, NOW + 1.0 - JUST) == [A]
    assert out(set_aside, NOW + 1.0) == []


def test_each_failed_trial_doubles_the_time_up_to_thirty_seconds() -> None:
    set_aside = with_failed(A)
    now = NOW + 1.0
    for seconds in (2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0):
        fail_trial(set_aside, A, now)
        assert out(set_aside, now) == [A]
        assert out(set_aside, now + seconds - JUST) == [A], seconds
        now += seconds
        assert out(set_aside, now) == [], seconds


def test_many_failures_together_count_once() -> None:
    set_aside = with_failed(A)
    for at in (0.0, 0.1, 0.5, 0.999):
        assert set_aside.connect_failed(A.key, NOW + at, trial=0) is False
    assert out(set_aside, NOW + 1.0) == []
    fail_trial(set_aside, A, NOW + 1.0)
    # The time was doubled once, not five times.
    assert out(set_aside, NOW + 3.0) == []


def test_a_connect_that_began_earlier_says_nothing_during_the_trial_or_after() -> None:
    set_aside = with_failed(A)
    assert set_aside.connect_failed(A.key, NOW + 1.5, trial=0) is False
    assert out(set_aside, NOW + 1.5) == []
    assert set_aside.picked(A.key, NOW + 1.5)
    assert set_aside.connect_failed(A.key, NOW + 1.6, trial=0) is False
    assert set_aside.state(A, NOW + 1.6) == ("on trial", 0.0)


class TestTrial:
    def test_one_request_tries_and_the_others_pass_over(self) -> None:
        set_aside = with_failed(A)
        assert out(set_aside, NOW + 1.0) == []
        assert set_aside.picked(A.key, NOW + 1.0)
        assert out(set_aside, NOW + 1.0) == [A]
        assert set_aside.picked(A.key, NOW + 1.0) == 0

    def test_it_lasts_until_it_is_decided(self) -> None:
        set_aside = with_failed(A)
        set_aside.picked(A.key, NOW + 1.0)
        assert out(set_aside, NOW + 1000.0) == [A]
        assert set_aside.next_return(NOW + 1000.0) is None

    def test_before_its_time_a_pick_is_no_trial(self) -> None:
        # A request that has no other endpoint left tries it all the same.
        set_aside = with_failed(A)
        assert set_aside.picked(A.key, NOW + 1.0 - JUST) == 0
        assert set_aside.connect_failed(A.key, NOW + 1.0 - JUST, trial=0) is False
        assert out(set_aside, NOW + 1.0) == []

    def test_a_pick_of_another_is_no_trial(self) -> None:
        set_aside = with_failed(A)
        assert set_aside.picked(B.key, NOW + 1.0) == 0
        assert out(set_aside, NOW + 1.0) == []

    def test_if_it_is_abandoned_another_may_try(self) -> None:
        set_aside = with_failed(A)
        first = set_aside.picked(A.key, NOW + 1.0)
        set_aside.trial_abandoned(A.key, NOW + 1.2, first)
        assert out(set_aside, NOW + 1.2) == []
        second = set_aside.picked(A.key, NOW + 1.2)
        assert second not in (0, first)
        # Nothing was learnt, so nothing was doubled twice.
        set_aside.connect_failed(A.key, NOW + 2.0, trial=second)
        assert out(set_aside, NOW + 4.0 - JUST) == [A]
        assert out(set_aside, NOW + 4.0) == []

    def test_abandoning_what_is_over_changes_nothing(self) -> None:
        set_aside = SetAside()
        set_aside.trial_abandoned(A.key, NOW, 1)
        assert out(set_aside) == []

    def test_one_of_before_the_endpoint_was_forgotten_decides_nothing(self) -> None:
        set_aside = with_failed(A)
        stale = set_aside.picked(A.key, NOW + 1.0)
        set_aside.replace((A,), (not_ready(A),), NOW + 1.1)
        set_aside.replace((not_ready(A),), (A,), NOW + 1.2)
        set_aside.connect_failed(A.key, NOW + 1.3, trial=0)
        assert set_aside.connect_failed(A.key, NOW + 2.0, trial=stale) is False
        assert out(set_aside, NOW + 2.3) == []
        current = set_aside.picked(A.key, NOW + 2.3)
        set_aside.trial_abandoned(A.key, NOW + 2.4, stale)
        assert out(set_aside, NOW + 2.4) == [A]
        set_aside.trial_abandoned(A.key, NOW + 2.4, current)
        assert out(set_aside, NOW + 2.4) == []

    def test_each_endpoint_has_its_own(self) -> None:
        set_aside = with_failed(A, B)
        assert set_aside.picked(A.key, NOW + 1.0)
        assert out(set_aside, NOW + 1.0) == [A]
        assert set_aside.picked(B.key, NOW + 1.0)
        assert out(set_aside, NOW + 1.0) == [A, B]
        assert set_aside.connected(A.key, NOW + 1.1)
        assert out(set_aside, NOW + 1.1) == [B]


class TestConnected:
    def test_the_endpoint_is_back(self) -> None:
        set_aside = with_failed(A, B)
        set_aside.picked(A.key, NOW + 1.0)
        assert set_aside.connected(A.key, NOW + 1.1) is True
        assert out(set_aside, NOW + 1.1) == []
        assert set_aside.state(A, NOW + 1.1) == ("available", 0.0)

    def test_it_is_told_once(self) -> None:
        set_aside = with_failed(A)
        assert set_aside.connected(A.key, NOW) is True
        assert set_aside.connected(A.key, NOW) is False
        assert set_aside.connected(B.key, NOW) is False

    def test_an_endpoint_that_was_not_set_aside_is_not_back(self) -> None:
        set_aside = with_failed(A)
        assert set_aside.connected(B.key, NOW) is False
        assert out(set_aside) == [A]

    def test_it_ends_before_its_time_too(self) -> None:
        set_aside = with_failed(A)
        assert set_aside.connected(A.key, NOW + 0.1) is True
        assert out(set_aside, NOW + 0.1) == []

    def test_the_doubling_starts_anew(self) -> None:
        set_aside = with_failed(A)
        fail_trial(set_aside, A, NOW + 1.0)
        fail_trial(set_aside, A, NOW + 3.0)
        set_aside.connected(A.key, NOW + 7.0)
        assert set_aside.connect_failed(A.key, NOW + 8.0, trial=0)
        assert out(set_aside, NOW + 9.0 - JUST) == [A]
        assert out(set_aside, NOW + 9.0) == []

    def test_a_trial_that_fails_after_another_connect_succeeded_is_a_first_failure(self) -> None:
        set_aside = with_failed(A)
        trial = set_aside.picked(A.key, NOW + 1.0)
        set_aside.connected(A.key, NOW + 1.1)
        assert set_aside.connect_failed(A.key, NOW + 2.0, trial=trial) is True
        assert out(set_aside, NOW + 3.0 - JUST) == [A]
        assert out(set_aside, NOW + 3.0) == []


class TestOrder:
    def test_the_soonest_to_return_first(self) -> None:
        set_aside = with_failed(B)
        set_aside.connect_failed(A.key, NOW + 0.2, trial=0)
        set_aside.connect_failed(C.key, NOW + 0.1, trial=0)
        assert set_aside.soonest_first() == [B.key, C.key, A.key]
        fail_trial(set_aside, B, NOW + 1.0)
        assert set_aside.soonest_first() == [C.key, A.key, B.key]

    def test_when_the_next_one_returns(self) -> None:
        set_aside = with_failed(A)
        set_aside.connect_failed(B.key, NOW + 0.4, trial=0)
        assert set_aside.next_return(NOW + 0.5) == NOW + 1.0
        assert set_aside.next_return(NOW + 1.0) == NOW + 1.4
        assert set_aside.next_return(NOW + 1.4) is None

    def test_one_on_trial_has_no_time_to_return(self) -> None:
        set_aside = with_failed(A)
        set_aside.connect_failed(B.key, NOW + 0.4, trial=0)
        set_aside.picked(A.key, NOW + 1.0)
        assert set_aside.next_return(NOW + 1.0) == NOW + 1.4
        set_aside.connected(B.key, NOW + 1.1)
        assert set_aside.next_return(NOW + 1.1) is None


class TestSnapshots:
    def test_one_that_turns_from_not_ready_to_ready_is_as_good_as_new(self) -> None:
        set_aside = with_failed(A)
        set_aside.replace((A,), (not_ready(A),), NOW + 0.1)
        assert out(set_aside, NOW + 0.1) == [A]
        set_aside.replace((not_ready(A),), (A,), NOW + 0.2)
        assert out(set_aside, NOW + 0.2) == []
        # And the doubling starts anew.
        set_aside.connect_failed(A.key, NOW + 0.3, trial=0)
        assert out(set_aside, NOW + 1.3) == []

    def test_even_if_it_is_on_trial(self) -> None:
        set_aside = with_failed(A)
        set_aside.picked(A.key, NOW + 1.0)
        set_aside.replace((not_ready(A),), (A,), NOW + 1.1)
        assert out(set_aside, NOW + 1.1) == []

    @pytest.mark.parametrize(
        ("old", "new"), [(A, A), (A, not_ready(A)), (not_ready(A), not_ready(A)), (A, A._replace(name="new"))]
    )
    def test_any_other_change_ends_nothing(self, old: Endpoint, new: Endpoint) -> None:
        set_aside = with_failed(A)
        set_aside.replace((old,), (B, new), NOW + 0.1)
        assert out(set_aside, NOW + 0.1) == [A]
        assert set_aside.next_return(NOW + 0.1) == NOW + 1.0

    def test_one_that_leaves_is_forgotten(self) -> None:
        set_aside = with_failed(A, B)
        set_aside.replace((A, B), (B,), NOW + 0.1)
        assert out(set_aside, NOW + 0.1) == [B]
        assert set_aside.soonest_first() == [B.key]
        set_aside.replace((B,), (A, B), NOW + 0.2)
        assert out(set_aside, NOW + 0.2) == [B]

    def test_the_same_address_with_another_uid_is_another_endpoint(self) -> None:
        old, new = (make_endpoint("10.0.0.1", 80, uid=uid) for uid in ("pod-1", "pod-2"))
        set_aside = with_failed(old)
        set_aside.replace((old,), (new,), NOW)
        assert set_aside.out(NOW) == set()

    def test_time_goes_on(self) -> None:
        set_aside = with_failed(A, B)
        set_aside.replace((A, B, C), (A, B), NOW + 1.5)
        assert out(set_aside, NOW + 1.5) == []

    def test_without_anything_set_aside_nothing_happens(self) -> None:
        set_aside = SetAside()
        set_aside.replace((), (A,), NOW)
        assert out(set_aside) == []


def test_the_state_for_people() -> None:
    set_aside = with_failed(A)
    assert set_aside.state(A, NOW + 0.25) == ("set aside", 0.75)
    assert set_aside.state(A, NOW + 5.0) == ("set aside", 0.0)
    assert set_aside.state(B, NOW) == ("available", 0.0)
    set_aside.picked(A.key, NOW + 5.0)
    assert set_aside.state(A, NOW + 5.0) == ("on trial", 0.0)


def test_an_outage_has_a_reason_and_a_beginning() -> None:
    set_aside = SetAside()
    assert set_aside.outage(A.key) is None
    set_aside.connect_failed(A.key, NOW, trial=0, why="connect refused")
    set_aside.connect_failed(A.key, NOW + 0.5, trial=0, why="connect timed out")
    assert set_aside.outage(A.key) == ("connect refused", NOW), "of many that fail together the first counts"
    trial = set_aside.picked(A.key, NOW + 1.0)
    set_aside.connect_failed(A.key, NOW + 2.0, trial=trial, why="connect timed out")
    assert set_aside.outage(A.key) == ("connect timed out", NOW)
    set_aside.connected(A.key, NOW + 4.0)
    assert set_aside.outage(A.key) is None
    set_aside.connect_failed(A.key, NOW + 5.0, trial=0, why="connect refused")
    assert set_aside.outage(A.key) == ("connect refused", NOW + 5.0)
