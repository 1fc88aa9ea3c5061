"""What is balanced, and everything that remembers something about it."""

from __future__ import annotations

from lb import metrics
from lb.attempts import Attempts, RetryRules
from lb.balancer.round_robin import RoundRobin
from lb.endpoint import Endpoint, make_endpoint
from lb.http1.forwarding import Request, prepare_request
from lb.http1.head import HeadLimits, HeadParser
from lb.metrics import Metrics
from lb.pool import Pool
from lb.service import Service

A, B, C = (make_endpoint(f"10.0.0.{number}", 80, name=name) for number, name in enumerate("abc", 1))
NOW = 100.0


class Connection:
    """Stands in for an upstream connection."""

    def __init__(self) -> None:
        self.idle_since = 0.0
        self.is_usable = True


class Waiter:
    """Stands in for a request that waits."""

    def try_again(self, now: float) -> bool:
        return False


def get() -> Request:
    return prepare_request(HeadParser(HeadLimits()).request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))


def new_service(*endpoints: Endpoint) -> Service[Connection]:
    service: Service[Connection] = Service(
        policy=RoundRobin(),
        pool=Pool(idle_timeout=4.0, max_idle=10),
        metrics=Metrics(),
        rules=RetryRules(),
        max_waiting=2,
    )
    assert service.replace(endpoints, NOW) == []
    return service


def wakes(service: Service[Connection]) -> list[None]:
    """Return a list that grows whenever waiting requests are told that an endpoint is there."""
    told: list[None] = []
    service.on_available = lambda: told.append(None)
    return told


def picked(service: Service[Connection], count: int = 1, now: float = NOW) -> str:
    found = [service.pick(get(), now) for _ in range(count)]
    return "".join("-" if endpoint is None else endpoint.name for endpoint in found)


def counter(service: Service[Connection], endpoint: Endpoint, which: int) -> int:
    return service.metrics.endpoint(endpoint, which)


def test_before_the_first_snapshot_there_is_nothing() -> None:
    service = new_service()
    assert service.snapshot == ()
    assert picked(service) == "-"
    assert not service.has_available(NOW)


def test_requests_are_balanced_over_the_snapshot() -> None:
    service = new_service(A, B)
    assert picked(service, 4) == "abab"
    service.replace((B, C), NOW)
    assert service.snapshot == (B, C)
    assert picked(service, 4) == "bcbc"


def test_the_first_attempt_passes_over_what_is_set_aside() -> None:
    service = new_service(A, B)
    service.connect_failed(A.key, NOW, trial=0)
    assert picked(service, 3) == "bbb"
    assert picked(service, 2, NOW + 1.0) == "ab"


def test_a_further_attempt_follows_the_rules_of_attempts() -> None:
    service = new_service(A, B)
    attempts = Attempts(service.rules, NOW)
    attempts.connect_failed(A.key)
    service.connect_failed(A.key, NOW, trial=0)
    assert service.pick_again(attempts, NOW) == B
    attempts.connect_failed(B.key)
    service.connect_failed(B.key, NOW, trial=0)
    assert service.pick_again(attempts, NOW) is None
    assert service.pick_returned(attempts, NOW) is None
    assert service.pick_returned(attempts, NOW + 1.0) == A


def test_what_was_not_tried_yet_comes_first_even_if_it_is_set_aside() -> None:
    service = new_service(A, B)
    attempts = Attempts(service.rules, NOW)
    service.connect_failed(B.key, NOW, trial=0)
    attempts.connect_failed(A.key)
    service.connect_failed(A.key, NOW, trial=0)
    assert service.pick_again(attempts, NOW) == B


def test_a_further_attempt_also_sees_what_returned_since_it_was_tried() -> None:
    service = new_service(A, B)
    attempts = Attempts(service.rules, NOW)
    for endpoint in (A, B):
        attempts.connect_failed(endpoint.key)
        service.connect_failed(endpoint.key, NOW, trial=0)
    service.connected(A.key, NOW + 0.1)
    assert service.pick_again(attempts, NOW + 0.1) == A


class TestReplace:
    def test_idle_connections_to_endpoints_that_left_are_to_be_closed(self) -> None:
        service = new_service(A, B)
        to_a, to_b = Connection(), Connection()
        service.pool.checkin(A.key, to_a, NOW)
        service.pool.checkin(B.key, to_b, NOW)
        assert service.replace((A, C), NOW) == [to_b]
        assert service.pool.count(A.key) == 1

    def test_those_to_endpoints_that_are_not_ready_stay(self) -> None:
        service = new_service(A)
        service.pool.checkin(A.key, Connection(), NOW)
        assert service.replace((A._replace(ready=False),), NOW) == []
        assert service.pool.count(A.key) == 1

    def test_an_endpoint_that_turns_ready_is_no_longer_set_aside(self) -> None:
        service = new_service(A)
        service.connect_failed(A.key, NOW, trial=0)
        service.replace((A._replace(ready=False),), NOW)
        assert not service.has_available(NOW)
        service.replace((A,), NOW)
        assert service.has_available(NOW)
        assert picked(service) == "a"

    def test_the_same_snapshot_again_ends_no_set_aside(self) -> None:
        service = new_service(A)
        service.connect_failed(A.key, NOW, trial=0)
        service.replace((A,), NOW)
        assert not service.has_available(NOW)

    def test_counters_of_endpoints_that_left_are_kept_for_a_while(self) -> None:
        service = new_service(A)
        service.connected(A.key, NOW)
        service.replace((B,), NOW)
        assert counter(service, A, metrics.CONNECTS) == 1
        service.replace((B,), NOW + metrics.KEEP_SECONDS - 1.0)
        assert counter(service, A, metrics.CONNECTS) == 1
        service.replace((B,), NOW + metrics.KEEP_SECONDS)
        assert counter(service, A, metrics.CONNECTS) == 0

    def test_requests_that_wait_are_told(self) -> None:
        service = new_service(A)
        told = wakes(service)
        service.replace((A, B), NOW)
        assert told == []
        service.waiting.enter(Waiter())
        service.replace((A,), NOW)
        assert told == [None]


class TestConnected:
    def test_it_is_counted(self) -> None:
        service = new_service(A, B)
        assert service.connected(A.key, NOW) is False
        assert service.connected(A.key, NOW) is False
        assert counter(service, A, metrics.CONNECTS) == 2
        assert counter(service, B, metrics.CONNECTS) == 0

    def test_an_endpoint_that_was_set_aside_is_back(self) -> None:
        service = new_service(A)
        service.connect_failed(A.key, NOW, trial=0)
        assert service.connected(A.key, NOW) is True
        assert service.has_available(NOW)

    def test_only_if_it_is_back_are_those_told_that_wait(self) -> None:
        service = new_service(A, B)
        told = wakes(service)
        service.connect_failed(A.key, NOW, trial=0)
        service.connected(A.key, NOW)
        assert told == []
        service.waiting.enter(Waiter())
        service.connected(B.key, NOW)
        assert told == []
        service.connect_failed(A.key, NOW, trial=0)
        service.connected(A.key, NOW)
        assert told == [None]


class TestConnectFailed:
    def test_the_endpoint_is_set_aside_and_its_idle_connections_are_to_be_closed(self) -> None:
        service = new_service(A, B)
        idle, other = Connection(), Connection()
        service.pool.checkin(A.key, idle, NOW)
        service.pool.checkin(B.key, other, NOW)
        assert service.connect_failed(A.key, NOW, trial=0) == (True, [idle])
        assert service.pool.count(A.key) == 0
        assert service.pool.count(B.key) == 1

    def test_of_many_failures_together_only_the_first_does_that(self) -> None:
        service = new_service(A)
        service.connect_failed(A.key, NOW, trial=0)
        service.pool.checkin(A.key, Connection(), NOW)
        assert service.connect_failed(A.key, NOW, trial=0) == (False, [])
        assert service.pool.count(A.key) == 1
        assert counter(service, A, metrics.CONNECT_FAILURES) == 2
        assert counter(service, A, metrics.SET_ASIDES) == 1

    def test_a_trial_that_fails_sets_it_aside_anew(self) -> None:
        service = new_service(A)
        service.connect_failed(A.key, NOW, trial=0)
        trial = service.set_aside.picked(A.key, NOW + 1.0)
        assert service.connect_failed(A.key, NOW + 1.0, trial=trial) == (True, [])
        assert counter(service, A, metrics.CONNECT_FAILURES) == 2
        assert counter(service, A, metrics.SET_ASIDES) == 2
        assert not service.has_available(NOW + 3.0 - 0.001)
        assert service.has_available(NOW + 3.0)


class TestAvailability:
    def test_one_that_is_ready_and_not_set_aside_is_enough(self) -> None:
        service = new_service(A, B._replace(ready=False))
        assert service.has_available(NOW)
        service.connect_failed(A.key, NOW, trial=0)
        assert not service.has_available(NOW)
        service.replace((A, B), NOW)
        assert service.has_available(NOW)


def test_a_trial_that_is_abandoned_is_told_to_those_that_wait() -> None:
    service = new_service(A)
    told = wakes(service)
    service.connect_failed(A.key, NOW, trial=0)
    for waiters in (0, 1):
        trial = service.set_aside.picked(A.key, NOW + 1.0)
        assert not service.has_available(NOW + 1.0)
        service.trial_abandoned(A.key, NOW + 1.1, trial)
        assert service.has_available(NOW + 1.1)
        assert len(told) == waiters
        service.waiting.enter(Waiter())


def test_so_many_requests_may_wait() -> None:
    service = new_service()
    assert service.waiting.enter(Waiter())
    assert service.waiting.enter(Waiter())
    assert not service.waiting.enter(Waiter())
