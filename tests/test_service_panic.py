"""A panic, in what is balanced: who gets requests, what closes, and what ends it; and endpoints that went silent."""

from __future__ import annotations

import pytest

from lb import metrics
from lb.attempts import Attempts
from lb.endpoint import Endpoint, make_endpoint
from lb.service import Service
from tests.test_service import NOW, Connection, Waiter, counter, new_service, picked, wakes

A, B, C = (make_endpoint(f"10.0.0.{number}", 80, name=name, uid=name) for number, name in enumerate("abc", 1))


def gone_dark(*endpoints: Endpoint) -> tuple[Endpoint, ...]:
    """Return them as they are when the kubelet of their node is dead."""
    return tuple(endpoint._replace(ready=False, was_ready=True) for endpoint in endpoints)


def in_panic(*endpoints: Endpoint) -> Service[Connection]:
    service = new_service(*endpoints)
    service.replace(gone_dark(*endpoints), NOW)
    assert service.is_panicking
    return service


def idle_at(service: Service[Connection], endpoint: Endpoint) -> Connection:
    connection = Connection()
    assert service.pool.checkin(endpoint.key, connection, NOW)
    return connection


class TestPanic:
    def test_with_one_ready_there_is_none(self) -> None:
        service = new_service(A, B)
        service.replace((A, *gone_dark(B)), NOW)
        assert not service.is_panicking
        assert picked(service, 3) == "aaa"

    def test_those_that_were_ready_go_on(self) -> None:
        service = in_panic(A, B)
        assert sorted(picked(service, 4)) == ["a", "a", "b", "b"]
        assert service.has_available(NOW)

    def test_nothing_of_theirs_is_closed(self) -> None:
        service = new_service(A, B)
        idle_at(service, A)
        assert service.replace(gone_dark(A, B), NOW) == []
        assert service.pool.count(A.key) == 1

    def test_it_ends_when_one_is_ready(self) -> None:
        service = in_panic(A, B)
        service.replace((A, *gone_dark(B)), NOW)
        assert not service.is_panicking
        assert picked(service, 3) == "aaa"

    def test_it_ends_when_all_are_gone(self) -> None:
        service = in_panic(A, B)
        idle = idle_at(service, A)
        assert service.replace((), NOW) == [idle]
        assert not service.is_panicking
        assert picked(service) == "-"

    def test_those_that_never_were_ready_are_left_out(self) -> None:
        service = in_panic(A)
        service.replace((*gone_dark(A), B._replace(ready=False)), NOW)
        assert picked(service, 3) == "aaa"

    def test_requests_that_wait_are_told(self) -> None:
        service = new_service(A._replace(ready=False))
        told = wakes(service)
        service.waiting.enter(Waiter())
        service.replace(gone_dark(A), NOW)
        assert told == [None]

    def test_it_can_be_switched_off(self) -> None:
        service = new_service(A, B)
        service._may_panic = False
        service.replace(gone_dark(A, B), NOW)
        assert not service.is_panicking
        assert picked(service) == "-"
        assert not service.has_available(NOW)

    def test_counters_of_those_in_use_are_kept(self) -> None:
        service = in_panic(A)
        service.connected(A.key, NOW)
        assert counter(service, A, metrics.CONNECTS) == 1


@pytest.mark.parametrize("how", ["refused", "silent"])
class TestOutOfIt:
    """An endpoint that refused a connect or went silent is out of a panic until it is ready again."""

    def fail(self, service: Service[Connection], endpoint: Endpoint, how: str, now: float = NOW) -> list[Connection]:
        if how == "refused":
            newly, closed = service.connect_failed(endpoint.key, now, trial=0)
        else:
            newly, closed = service.went_silent(endpoint.key, now)
        assert newly
        return closed

    def test_while_it_lasts(self, how: str) -> None:
        service = in_panic(A, B)
        idle, other = idle_at(service, A), idle_at(service, B)
        assert self.fail(service, A, how) == [idle]
        assert service.pool.checkout(B.key, NOW) is other
        assert service.is_panicking
        # Also when its time of being set aside is over.
        for later in (0.0, 1.0, 100.0):
            assert picked(service, 3, NOW + later) == "bbb"
        assert [e.name for e in service.snapshot if e.ready] == ["b"]

    def test_before_it_began(self, how: str) -> None:
        service = new_service(A, B)
        self.fail(service, A, how)
        service.replace(gone_dark(A, B), NOW)
        assert picked(service, 3, NOW + 100.0) == "bbb"

    def test_with_all_of_them_out_it_is_over(self, how: str) -> None:
        service = in_panic(A, B)
        self.fail(service, A, how)
        self.fail(service, B, how)
        assert not service.is_panicking
        assert picked(service, 1, NOW + 100.0) == "-"
        assert not service.has_available(NOW + 100.0)

    def test_other_news_bring_it_not_back(self, how: str) -> None:
        service = in_panic(A, B)
        self.fail(service, A, how)
        service.replace(gone_dark(A, B, C), NOW + 50.0)
        assert sorted(picked(service, 4, NOW + 50.0)) == ["b", "b", "c", "c"]

    def test_it_is_back_as_soon_as_it_is_ready(self, how: str) -> None:
        service = in_panic(A, B)
        self.fail(service, A, how)
        service.replace((A, *gone_dark(B)), NOW + 0.1)
        assert picked(service, 2, NOW + 0.1) == "aa"
        service.replace(gone_dark(A, B), NOW + 0.2)
        assert sorted(picked(service, 4, NOW + 0.2)) == ["a", "a", "b", "b"]

    def test_it_is_back_if_a_connect_succeeded_since(self, how: str) -> None:
        service = new_service(A, B)
        self.fail(service, A, how)
        assert service.connected(A.key, NOW + 2.0)
        service.replace(gone_dark(A, B), NOW + 3.0)
        assert sorted(picked(service, 4, NOW + 3.0)) == ["a", "a", "b", "b"]

    def test_it_is_back_when_a_connect_succeeds_in_the_panic(self, how: str) -> None:
        service = in_panic(A)
        self.fail(service, A, how)
        assert not service.is_panicking
        assert service.connected(A.key, NOW + 1.0)
        assert service.is_panicking
        assert picked(service, 2, NOW + 1.0) == "aa"

    def test_another_pod_at_its_address_is_another(self, how: str) -> None:
        service = in_panic(A, B)
        self.fail(service, A, how)
        heir = C._replace(key=("c", *A.key[1:]))
        idle = idle_at(service, B)
        service.replace(gone_dark(B, heir), NOW)
        assert sorted(picked(service, 4)) == ["b", "b", "c", "c"]
        assert service.pool.checkout(B.key, NOW) is idle

    def test_a_further_attempt_goes_to_one_that_is_in_it(self, how: str) -> None:
        service = in_panic(A, B)
        attempts = Attempts(service.rules, NOW)
        attempts.connect_failed(A.key)
        self.fail(service, A, how)
        assert service.pick_again(attempts, NOW) is not None
        attempts.connect_failed(B.key)
        self.fail(service, B, how)
        assert service.pick_again(attempts, NOW + 100.0) is None
        assert service.pick_returned(attempts, NOW + 100.0) is None


class TestSilent:
    def test_it_is_set_aside_and_its_idle_connections_are_to_be_closed(self) -> None:
        service = new_service(A, B)
        idle = [idle_at(service, A), idle_at(service, A)]
        idle_at(service, B)
        assert service.went_silent(A.key, NOW) == (True, idle)
        assert service.pool.count(B.key) == 1
        assert picked(service, 3) == "bbb"
        assert counter(service, A, metrics.SET_ASIDES) == 1
        assert counter(service, A, metrics.CONNECT_FAILURES) == 0

    def test_of_many_connections_that_break_together_the_first_counts(self) -> None:
        service = new_service(A, B)
        service.went_silent(A.key, NOW)
        idle = idle_at(service, A)
        assert service.went_silent(A.key, NOW + 0.1) == (False, [])
        assert service.pool.checkout(A.key, NOW) is idle
        assert counter(service, A, metrics.SET_ASIDES) == 1
        assert picked(service, 2, NOW + 1.0) == "ab"

    def test_one_that_left_is_not_set_aside(self) -> None:
        service = new_service(A, B)
        idle_at(service, A)
        service.replace((B,), NOW)
        assert service.went_silent(A.key, NOW) == (False, [])
        assert service.set_aside.is_empty

    def test_an_old_connection_decides_no_trial(self) -> None:
        service = new_service(A, B)
        service.went_silent(A.key, NOW)
        trial = service.set_aside.picked(A.key, NOW + 1.0)
        assert trial
        assert service.went_silent(A.key, NOW + 1.1) == (False, [])
        assert service.connected(A.key, NOW + 1.2), "the trial itself does"
        assert picked(service, 2, NOW + 1.2) == "ab"
