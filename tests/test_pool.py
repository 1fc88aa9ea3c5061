"""Idle upstream connections."""

from __future__ import annotations

from lb.endpoint import EndpointKey
from lb.pool import Pool

A: EndpointKey = ("", "10.0.0.1", 80)
B: EndpointKey = ("", "10.0.0.2", 80)
TIMEOUT = 4.0
JUST = 0.001


class Connection:
    """Stands in for an upstream connection."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.idle_since = -1.0
        self.is_usable = True

    def __repr__(self) -> str:
        return self.name


def new_pool(max_idle: int = 3) -> Pool[Connection]:
    return Pool(idle_timeout=TIMEOUT, max_idle=max_idle)


def checked_in(pool: Pool[Connection], key: EndpointKey, *times: float) -> list[Connection]:
    """Check in a connection at each of `times`."""
    connections = [Connection(f"{at:g}") for at in times]
    for connection, at in zip(connections, times, strict=True):
        assert pool.checkin(key, connection, at)
    return connections


def test_an_empty_pool_has_nothing() -> None:
    pool = new_pool()
    assert pool.checkout(A, 0.0) is None
    assert pool.count(A) == 0
    assert pool.expire(0.0) == []
    assert pool.discard(A) == []
    assert pool.clear() == []


def test_what_was_checked_in_is_checked_out_once() -> None:
    pool = new_pool()
    [connection] = checked_in(pool, A, 1.0)
    assert pool.count(A) == 1
    assert pool.checkout(A, 1.5) is connection
    assert pool.count(A) == 0
    assert pool.checkout(A, 1.5) is None


def test_checkin_notes_since_when_it_idles() -> None:
    pool = new_pool()
    [connection] = checked_in(pool, A, 7.5)
    assert connection.idle_since == 7.5


def test_the_last_one_used_comes_first() -> None:
    pool = new_pool()
    first, second, third = checked_in(pool, A, 1.0, 2.0, 3.0)
    assert [pool.checkout(A, 3.0) for _ in range(3)] == [third, second, first]


def test_each_endpoint_has_its_own() -> None:
    pool = new_pool()
    [of_a] = checked_in(pool, A, 1.0)
    [of_b] = checked_in(pool, B, 2.0)
    assert (pool.count(A), pool.count(B)) == (1, 1)
    assert pool.checkout(A, 2.0) is of_a
    assert pool.checkout(A, 2.0) is None
    assert pool.checkout(B, 2.0) is of_b


def test_one_that_idled_too_long_is_not_given_out_and_stays_for_expire() -> None:
    pool = new_pool()
    [connection] = checked_in(pool, A, 0.0)
    assert pool.checkout(A, TIMEOUT) is None
    assert pool.count(A) == 1
    assert pool.expire(TIMEOUT) == [connection]
    assert pool.count(A) == 0


def test_just_before_it_is_given_out() -> None:
    pool = new_pool()
    [connection] = checked_in(pool, A, 0.0)
    assert pool.checkout(A, TIMEOUT - JUST) is connection


def test_one_that_was_closed_is_passed_over() -> None:
    pool = new_pool()
    first, second, third = checked_in(pool, A, 1.0, 2.0, 3.0)
    third.is_usable = second.is_usable = False
    assert pool.checkout(A, 3.0) is first
    assert pool.count(A) == 0


def test_if_all_were_closed_there_is_none() -> None:
    pool = new_pool()
    for connection in checked_in(pool, A, 1.0, 2.0):
        connection.is_usable = False
    assert pool.checkout(A, 2.0) is None
    assert pool.count(A) == 0


def test_there_are_at_most_so_many_per_endpoint() -> None:
    pool = new_pool(max_idle=2)
    first, second = checked_in(pool, A, 1.0, 2.0)
    refused = Connection("refused")
    assert pool.checkin(A, refused, 3.0) is False
    assert refused.idle_since == -1.0
    assert pool.count(A) == 2
    assert pool.checkin(B, Connection(), 3.0) is True
    assert pool.checkout(A, 3.0) is second
    assert pool.checkin(A, second, 3.0) is True
    assert pool.discard(A) == [first, second]


def test_a_pool_that_keeps_none() -> None:
    pool = new_pool(max_idle=0)
    assert pool.checkin(A, Connection(), 1.0) is False
    assert pool.count(A) == 0


class TestExpire:
    def test_only_what_idled_for_the_whole_time(self) -> None:
        pool = new_pool()
        first, second, third = checked_in(pool, A, 0.0, 1.0, 2.0)
        assert pool.expire(TIMEOUT - JUST) == []
        assert pool.expire(TIMEOUT + 1.0) == [first, second]
        assert pool.count(A) == 1
        assert pool.expire(TIMEOUT + 1.0) == []
        assert pool.checkout(A, TIMEOUT + 1.0) is third

    def test_and_nothing_younger_with_it(self) -> None:
        pool = new_pool()
        first, second, third = checked_in(pool, A, 0.0, 1.0, 2.0)
        assert pool.expire(TIMEOUT) == [first]
        assert pool.discard(A) == [second, third]

    def test_of_all_endpoints(self) -> None:
        pool = new_pool()
        [of_a] = checked_in(pool, A, 0.0)
        [of_b] = checked_in(pool, B, 0.0)
        assert {*pool.expire(TIMEOUT)} == {of_a, of_b}

    def test_the_time_is_counted_from_the_last_checkin(self) -> None:
        pool = new_pool()
        [connection] = checked_in(pool, A, 0.0)
        pool.checkout(A, 3.0)
        pool.checkin(A, connection, 3.0)
        assert pool.expire(TIMEOUT) == []
        assert pool.expire(3.0 + TIMEOUT) == [connection]


def test_discard_takes_those_of_one_endpoint() -> None:
    pool = new_pool()
    of_a = checked_in(pool, A, 1.0, 2.0)
    [of_b] = checked_in(pool, B, 1.0)
    assert pool.discard(A) == of_a
    assert pool.count(A) == 0
    assert pool.checkout(B, 1.0) is of_b


class TestForget:
    def test_one_that_was_closed_from_the_other_side_is_gone(self) -> None:
        pool = new_pool()
        first, second, third = checked_in(pool, A, 1.0, 2.0, 3.0)
        pool.forget(A, second)
        assert pool.count(A) == 2
        assert [pool.checkout(A, 3.0), pool.checkout(A, 3.0)] == [third, first]

    def test_one_that_is_not_there_changes_nothing(self) -> None:
        pool = new_pool()
        [connection] = checked_in(pool, A, 1.0)
        pool.forget(A, Connection())
        pool.forget(B, connection)
        assert pool.checkout(A, 1.0) is connection


class TestRetain:
    def test_those_of_endpoints_that_left_are_given_back(self) -> None:
        pool = new_pool()
        [of_a] = checked_in(pool, A, 1.0)
        of_b = checked_in(pool, B, 1.0, 2.0)
        assert pool.retain([A]) == of_b
        assert pool.count(B) == 0
        assert pool.checkout(A, 1.0) is of_a

    def test_an_endpoint_without_connections_is_no_matter(self) -> None:
        pool = new_pool()
        [of_a] = checked_in(pool, A, 1.0)
        assert pool.retain(iter([A, B])) == []
        assert pool.retain([B]) == [of_a]

    def test_clear_takes_all(self) -> None:
        pool = new_pool()
        of_both = {*checked_in(pool, A, 1.0, 2.0), *checked_in(pool, B, 1.0)}
        assert set(pool.clear()) == of_both
        assert pool.clear() == []


def test_a_connection_to_an_endpoint_that_has_left_is_not_taken_back() -> None:
    pool = new_pool()
    gone, here = ("", "10.0.0.1", 80), ("", "10.0.0.2", 80)
    assert pool.checkin(gone, Connection(), 1.0)
    assert len(pool.retain([here])) == 1
    assert not pool.checkin(gone, Connection(), 2.0)
    assert pool.checkin(here, Connection(), 2.0)
    assert (pool.count(gone), pool.count(here)) == (0, 1)
    pool.retain([here, gone])
    assert pool.checkin(gone, Connection(), 3.0)
