"""What the connections share, on a made-up loop: what is said of endpoints that fail, and of a panic."""

from __future__ import annotations

import errno
import logging

import pytest

from lb.endpoint import Endpoint, make_endpoint
from lb.errors import ConnectFailure
from lb.proxy import WAKE_LIMIT, Proxy
from lb.upstream import Upstream
from lb.waiting import Waiting
from tests.test_downstream import Harness, Transport

A, B = make_endpoint("10.0.0.1", 80, name="a"), make_endpoint("10.0.0.2", 80, name="b")
DARK_A, DARK_B = (endpoint._replace(ready=False, was_ready=True) for endpoint in (A, B))
ON = "no endpoint is ready: those that were ready and have answered since are used all the same (panic)"
OFF = "no more endpoints are used that are not ready"


def new_proxy(*endpoints: Endpoint) -> Proxy:
    return Harness(*endpoints).proxy


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    texts = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    caplog.clear()
    return texts


def connected(proxy: Proxy, endpoint: Endpoint) -> tuple[Upstream, Transport]:
    upstream, transport = proxy.new_upstream(endpoint), Transport()
    upstream.transport = transport  # type: ignore[assignment]
    return upstream, transport


def idle(proxy: Proxy, endpoint: Endpoint) -> tuple[Upstream, Transport]:
    upstream, transport = connected(proxy, endpoint)
    assert proxy.service.pool.checkin(endpoint.key, upstream, proxy.clock())
    return upstream, transport


class TestPanic:
    def test_it_is_said_once_when_it_begins_and_once_when_it_ends(self, caplog: pytest.LogCaptureFixture) -> None:
        proxy = new_proxy(A, B)
        assert said(caplog) == []
        proxy.replace((DARK_A, DARK_B))
        assert said(caplog) == [ON]
        proxy.replace((DARK_B, DARK_A))
        assert said(caplog) == []
        proxy.replace((A, DARK_B))
        assert said(caplog) == [OFF]
        proxy.replace((A, B))
        assert said(caplog) == []
        proxy.replace((DARK_A,))
        assert said(caplog) == [ON]

    def test_it_ends_when_the_last_of_them_fails(self, caplog: pytest.LogCaptureFixture) -> None:
        proxy = new_proxy(A, B)
        proxy.replace((DARK_A, DARK_B))
        said(caplog)
        proxy.upstream_silent(connected(proxy, A)[0])
        assert said(caplog) == ["endpoint 10.0.0.1:80 is set aside for 1 s: it acknowledges nothing any more"]
        proxy.connect_failed(proxy.new_upstream(B), ConnectFailure.REFUSED, trial=0)
        assert said(caplog) == ["endpoint 10.0.0.2:80 is set aside for 1 s: connect refused", OFF]

    def test_switched_off_nothing_is_said(self, caplog: pytest.LogCaptureFixture) -> None:
        proxy = new_proxy(A)
        proxy.service._may_panic = False
        proxy.replace((DARK_A,))
        assert said(caplog) == []
        assert not proxy.service.has_available(0.0)


class Waiter:
    """A request that waits; `taken` notes its turn. One that is stubborn finds nothing."""

    def __init__(self, proxy: Proxy, taken: list[Waiter], *, is_stubborn: bool = False) -> None:
        self._proxy, self._taken, self._is_stubborn = proxy, taken, is_stubborn
        assert proxy.service.waiting.enter(self)

    def try_again(self, now: float) -> bool:
        self._taken.append(self)
        if not self._is_stubborn:
            self._proxy.service.waiting.leave(self)
        return not self._is_stubborn


class TestWaiting:
    """Many wait, and an endpoint is there: the first answer need not wait for the last connect."""

    def test_more_each_time_in_order(self) -> None:
        harness = Harness()
        proxy, taken = harness.proxy, list[Waiter]()
        proxy.service.waiting = Waiting(1000)
        waiters = [Waiter(proxy, taken) for _ in range(300)]
        proxy.replace((A,))
        harness.loop.end_turn()
        counts = [len(taken)]
        while len(taken) < len(waiters):
            harness.loop.time_passes()
            counts.append(len(taken))
        assert counts == [1, 3, 7, 15, 31, 63, 63 + WAKE_LIMIT, 63 + 2 * WAKE_LIMIT, 63 + 3 * WAKE_LIMIT, 300]
        assert taken == waiters

    def test_whoever_has_left_by_its_turn_is_passed_over(self) -> None:
        harness = Harness()
        proxy, taken = harness.proxy, list[Waiter]()
        proxy.service.waiting = Waiting(100)
        waiters = [Waiter(proxy, taken) for _ in range(3)]
        proxy.replace((A,))
        harness.loop.end_turn()
        proxy.service.waiting.leave(waiters[1])
        harness.loop.time_passes()
        assert taken == [waiters[0], waiters[2]]

    def test_it_ends_when_the_endpoint_is_gone_again(self) -> None:
        harness = Harness()
        proxy, taken = harness.proxy, list[Waiter]()
        proxy.service.waiting = Waiting(100)
        waiters = [Waiter(proxy, taken) for _ in range(3)]
        proxy.replace((A,))
        harness.loop.end_turn()
        proxy.replace(())
        harness.loop.end_turn()
        harness.loop.time_passes()
        assert taken == waiters[:1]
        assert proxy.service.waiting.in_order() == waiters[1:]

    def test_those_who_find_nothing_are_asked_once(self) -> None:
        harness = Harness()
        proxy, taken = harness.proxy, list[Waiter]()
        proxy.service.waiting = Waiting(100)
        waiters = [Waiter(proxy, taken, is_stubborn=True) for _ in range(7)]
        proxy.replace((A,))
        harness.loop.end_turn()
        for _ in range(5):
            harness.loop.time_passes()
        assert taken == waiters


class TestSilent:
    def test_it_is_said_once_and_the_idle_connections_are_closed(self, caplog: pytest.LogCaptureFixture) -> None:
        proxy = new_proxy(A, B)
        busy, other = connected(proxy, A), connected(proxy, A)
        waiting, elsewhere = idle(proxy, A), idle(proxy, B)
        proxy.upstream_silent(busy[0])
        proxy.upstream_silent(other[0])
        assert said(caplog) == ["endpoint 10.0.0.1:80 is set aside for 1 s: it acknowledges nothing any more"]
        assert waiting[1].closing
        assert not elsewhere[1].closing
        assert not proxy.service.set_aside.is_empty

    def test_of_one_that_left_nothing_is_said(self, caplog: pytest.LogCaptureFixture) -> None:
        proxy = new_proxy(A, B)
        busy, _ = connected(proxy, A)
        proxy.replace((B,))
        proxy.upstream_silent(busy)
        assert said(caplog) == []

    @pytest.mark.parametrize(
        ("error", "is_silent"),
        [
            (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), True),
            (OSError(errno.EHOSTUNREACH, "No route to host"), True),
            (ConnectionResetError(104, "Connection reset by peer"), False),
            (BrokenPipeError(32, "Broken pipe"), False),
            (None, False),
        ],
    )
    def test_what_the_kernel_says(
        self, error: OSError | None, is_silent: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        proxy = new_proxy(A, B)
        upstream, _ = idle(proxy, A)
        upstream.connection_lost(error)
        assert proxy.service.set_aside.is_empty is not is_silent
        assert len(said(caplog)) == int(is_silent)
        assert proxy.service.pool.count(A.key) == 0


def test_it_has_few_enough_attributes_to_be_quick() -> None:
    """CPython 3.11 shares the keys of at most 30 (SHARED_KEYS_MAX_SIZE)."""
    assert len(vars(Harness(A).proxy)) <= 30
