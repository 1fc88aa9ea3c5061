"""What is balanced: the endpoints of now, and everything that remembers something about them, in one place.

Discovery replaces the snapshot; selection, set-aside, pool and counters follow it here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from lb import metrics
from lb.attempts import Attempts, Failure, HeldBody, RetryRules
from lb.balancer import Policy
from lb.endpoint import Endpoint, EndpointKey, Snapshot
from lb.health.panic import panicking
from lb.health.set_aside import SetAside
from lb.health.states import States
from lb.http1.forwarding import Request
from lb.metrics import Metrics
from lb.pool import Idle, Pool
from lb.waiting import Waiting

_NOBODY: frozenset[EndpointKey] = frozenset()

C = TypeVar("C", bound=Idle)


class Service(Generic[C]):
    """One set of endpoints, balanced by one policy. `C` is the type of an upstream connection."""

    def __init__(
        self,
        *,
        policy: Policy,
        pool: Pool[C],
        metrics: Metrics,
        rules: RetryRules,
        max_waiting: int,
        may_panic: bool = True,
    ) -> None:
        self.policy = policy
        self.pool = pool
        self.metrics = metrics
        self.rules = rules
        self.set_aside = SetAside()
        self.states = States(self.set_aside)
        self.waiting = Waiting(max_waiting)
        self.snapshot: Snapshot = ()
        self.is_panicking = False
        """Are endpoints in use that are not ready, since none is?"""
        self._may_panic = may_panic
        self._published: Snapshot = ()
        self._keys: frozenset[EndpointKey] = frozenset()
        self.on_available: Callable[[], None] = lambda: None
        """Called when an endpoint returned or is new while requests wait for one."""

    def replace(self, snapshot: Snapshot, now: float) -> list[C]:
        """Balance over `snapshot` from now on; return the idle connections that are to be closed."""
        self.set_aside.replace(self._published, snapshot, now)
        self.states.replace(snapshot, now)
        self._published = snapshot
        self._keys = frozenset(endpoint.key for endpoint in snapshot)
        return self._balance(now)

    def _balance(self, now: float) -> list[C]:
        """Balance over what was published, or what of it is of use in a panic."""
        snapshot = self._published
        in_panic = panicking(snapshot, self.set_aside.failed) if self._may_panic else None
        self.is_panicking = in_panic is not None
        self.snapshot = snapshot = snapshot if in_panic is None else in_panic
        self.policy.replace(snapshot)
        self.metrics.retain(self._keys, now)
        if self.waiting:
            self.on_available()
        return self.pool.retain(self._keys)

    def pick(self, request: Request, now: float) -> Endpoint | None:
        """Return the endpoint for the first attempt, or None: none is available."""
        set_aside = self.set_aside
        return self.policy.pick(request, _NOBODY if set_aside.is_empty else set_aside.out(now), now)

    def pick_again(self, attempts: Attempts, now: float) -> Endpoint | None:
        """Return the endpoint for a further attempt, or None: all were tried, and none has returned since."""
        endpoint = attempts.choose(self.policy, self.set_aside, now)
        return endpoint or attempts.choose_returned(self.policy, self.set_aside, now)

    def pick_untried(
        self,
        attempts: Attempts,
        key: EndpointKey,
        request: Request,
        failure: Failure,
        body: HeldBody | None,
        now: float,
    ) -> Endpoint | None:
        """Return the endpoint for the attempt that follows a 503 or a time-out at `key`, or None: there is none."""
        return attempts.elsewhere(key, request, failure, body, self.policy, self.set_aside, now)

    def pick_returned(self, attempts: Attempts, now: float) -> Endpoint | None:
        """Return an endpoint for a request that waits, or None: it goes on waiting."""
        return attempts.choose_returned(self.policy, self.set_aside, now)

    def has_available(self, now: float) -> bool:
        """Is there an endpoint that is ready and not set aside?"""
        out = self.set_aside.out(now)
        return any(endpoint.ready and endpoint.key not in out for endpoint in self.snapshot)

    def connected(self, key: EndpointKey, now: float) -> bool:
        """A connect succeeded. Is the endpoint back from being set aside?"""
        self.metrics.values[self.metrics.slot(key) + metrics.CONNECTS] += 1
        back = self.set_aside.connected(key, now)
        if back:
            self.states.came_back(key, now)
        if back and not any(endpoint.ready for endpoint in self._published):
            # What was of no use in a panic is again. (No endpoint leaves, so nothing is to be closed.)
            self._balance(now)
        if back and self.waiting:
            self.on_available()
        return back

    def trial_abandoned(self, key: EndpointKey, now: float, trial: int) -> None:
        """The request that tried an endpoint is gone before its connect was decided: another may try."""
        self.set_aside.trial_abandoned(key, now, trial)
        if self.waiting:
            self.on_available()

    def connect_failed(self, key: EndpointKey, now: float, *, trial: int, why: str = "") -> tuple[bool, list[C]]:
        """A connect was refused or timed out. Return whether the endpoint is set aside (anew), and what to close.

        `why` says it to people.
        """
        self.metrics.values[self.metrics.slot(key) + metrics.CONNECT_FAILURES] += 1
        if key not in self._keys:
            # It has left meanwhile: there is nothing to set aside.
            return False, self.pool.discard(key)
        return self._failed(key, now, trial, why)

    def went_silent(self, key: EndpointKey, now: float, *, why: str = "") -> tuple[bool, list[C]]:
        """A connection broke since the endpoint acknowledged nothing. Returns as `connect_failed` does."""
        return self._failed(key, now, 0, why) if key in self._keys else (False, self.pool.discard(key))

    def _failed(self, key: EndpointKey, now: float, trial: int, why: str) -> tuple[bool, list[C]]:
        if not self.set_aside.connect_failed(key, now, trial=trial, why=why):
            return False, []
        self.metrics.values[self.metrics.slot(key) + metrics.SET_ASIDES] += 1
        # Whoever tries it next must see whether it can be connected to.
        closed = self.pool.discard(key)
        if self.is_panicking:
            closed += self._balance(now)
        return True, closed
