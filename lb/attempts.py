"""The tries of one exchange: all knowledge of when another endpoint may be tried, and which.

The rules (`docs/behaviour.md` says them for users):

 1. Nothing was sent (the connect failed): any method goes on. It does not count against `retries`.
 2. Bytes were written, and the connection died before the first response byte: idempotent methods go on (RFC 9110,
    section 9.2.2: a proxy must not retry others by itself), at most `retries` times, and only while all that was read
    of the body is still held.
 3. After the first byte sent downstream: never.
 4. First the endpoints that are not set aside and were not tried; then those of which only a pooled connection died; if
    none is left, those that are set aside, the soonest to return first, each once. At last those of which a new
    connection died, for they may be back: as often as rule 2 allows.
 5. When all were tried, the request waits for an endpoint that returns or is new, until `endpointWait` after its head.
 6. No attempt starts later than `endpointWait` plus one `connectTimeout` after the head.
 7. An endpoint answered 503, or did not answer in time: only if `retryOn` asks for it, under rule 2's conditions, and
    only at an endpoint that was not tried yet and is not set aside. The time of rule 6 then begins anew. Whoever failed
    it so is not asked again, whatever becomes of the others, and it waits for nobody (rule 5): it had an answer.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Set
from typing import NamedTuple

from lb.balancer import Policy
from lb.endpoint import Endpoint, EndpointKey
from lb.errors import ConnectFailure
from lb.health.set_aside import SetAside
from lb.http1.forwarding import Request


class RetryRules(NamedTuple):
    """What the configuration allows. Times in seconds, sizes in bytes."""

    retries: int = 2
    on_connect: bool = True
    on_reset: bool = True
    on_503: bool = False
    on_timeout: bool = False
    body_limit: int = 65536
    endpoint_wait: float = 3.0
    connect_timeout: float = 1.0


_STORY_LIMIT = 16


class Next(enum.Enum):
    """What to do after an attempt failed."""

    TRY = "try"
    """Choose another endpoint."""
    ANSWER = "answer"
    """Tell the client: this request may not be tried again."""


class Failure(enum.Enum):
    """How an endpoint failed a request that it took. The value completes "the endpoint …"."""

    UNAVAILABLE = "answered 503"
    TIMED_OUT = "did not answer in time"


class HeldBody:
    """What was read of a request's body, for as long as it may have to be sent again.

    Up to `limit` bytes are held; before anything was sent all of it is (the caller then stops reading at the limit).
    """

    __slots__ = ("_limit", "_pieces", "is_whole", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self.size = 0
        self.is_whole = True
        """Is everything that was read of the body still here?"""

    def add(self, data: bytes, *, sent: bool) -> None:
        """`data`, in the framing in which it is sent, was read; `sent`: an attempt has it already."""
        if not self.is_whole:
            return
        self._pieces.append(data)
        self.size += len(data)
        if sent:
            self.was_sent()

    def was_sent(self) -> None:
        """An attempt was given all of it: what is above the limit need not be held any longer."""
        if self.size > self._limit:
            self.is_whole = False
            self._pieces.clear()

    def pieces(self) -> Iterable[bytes]:
        """Return what is held, in order."""
        return self._pieces


class Attempts:
    """The tries of one exchange that needed more than one, or has a body."""

    __slots__ = (
        "_connect_failed",
        "_failed",
        "_last",
        "_lost",
        "_request",
        "_retries",
        "_reused",
        "_rules",
        "_since",
        "count",
        "last_connect",
        "story",
    )

    def __init__(self, rules: RetryRules, head_received: float, request: Request | None = None) -> None:
        self._rules = rules
        self._request = request
        self._since = head_received
        self._connect_failed: set[EndpointKey] = set()
        self._lost: set[EndpointKey] = set()
        self._reused: set[EndpointKey] = set()
        self._failed: set[EndpointKey] = set()
        self._last: EndpointKey | None = None
        self._retries = 0
        self.count = 0
        """Attempts that failed so far."""
        self.story: list[tuple[EndpointKey, str, float]] = []
        """Where the first of them were, how they ended, and when."""
        self.last_connect: ConnectFailure | None = None
        """How the last connect failed."""

    def _failed_at(self, key: EndpointKey, outcome: str, now: float) -> None:
        self.count += 1
        self._last = key
        if len(self.story) < _STORY_LIMIT:
            self.story.append((key, outcome, now))

    @property
    def wait_deadline(self) -> float:
        """Until when the request may wait for an endpoint."""
        return self._since if self._failed else self._since + self._rules.endpoint_wait

    def may_start(self, now: float) -> bool:
        """May another attempt start at `now`?"""
        return now <= self._since + self._rules.endpoint_wait + self._rules.connect_timeout

    def connect_failed(
        self, key: EndpointKey, failure: ConnectFailure = ConnectFailure.REFUSED, now: float = 0.0
    ) -> Next:
        """A connect failed: nothing was sent."""
        self.last_connect = failure
        self._failed_at(key, failure.value, now)
        self._connect_failed.add(key)
        return Next.TRY if self._rules.on_connect else Next.ANSWER

    def lost(
        self,
        key: EndpointKey,
        request: Request,
        *,
        reused: bool,
        written: bool,
        body: HeldBody | None,
        now: float = 0.0,
    ) -> Next:
        """The connection died before the first response byte; `written`: bytes of the request went out on it."""
        self._failed_at(key, "connection lost", now)
        if reused:
            self._reused.add(key)
        else:
            self._lost.add(key)
        if body is not None and not body.is_whole:
            return Next.ANSWER
        if written:
            if not (self._rules.on_reset and request.idempotent and self._retries < self._rules.retries):
                return Next.ANSWER
            self._retries += 1
        return Next.TRY

    def elsewhere(
        self,
        key: EndpointKey,
        request: Request,
        failure: Failure,
        body: HeldBody | None,
        policy: Policy,
        set_aside: SetAside,
        now: float,
    ) -> Endpoint | None:
        """The endpoint `key` took the request and failed it. Return who is tried next, or None: tell the client."""
        rules = self._rules
        is_asked_for = rules.on_503 if failure is Failure.UNAVAILABLE else rules.on_timeout
        if not (is_asked_for and request.idempotent and self._retries < rules.retries):
            return None
        if body is not None and not body.is_whole:
            return None
        tried = self._connect_failed | self._lost | self._reused | self._failed | {key}
        endpoint = policy.pick_again(key, _Union(tried, set_aside.out(now)))
        if endpoint is not None:
            self._retries += 1
            self._failed_at(key, failure.value, now)
            self._failed.add(key)
            self._since = now
        return endpoint

    def choose(self, policy: Policy, set_aside: SetAside, now: float) -> Endpoint | None:
        """Return the next endpoint to try, or None if all were tried."""
        if not self.may_start(now):
            return None
        after = self._last or ("", "", 0)
        out = set_aside.out(now)
        tried = self._connect_failed | self._lost | self._failed
        # A pooled connection that died says little about its endpoint: it comes before those that are set aside.
        endpoint = policy.pick_again(after, _Union(tried, self._reused, out)) or policy.pick_again(
            after, _Union(tried, out)
        )
        if endpoint is not None:
            return endpoint
        for key in set_aside.soonest_first():
            if key not in tried:
                endpoint = _only(policy, key, tried)
                if endpoint is not None:
                    return endpoint
        return policy.pick_again(after, _Union(self._connect_failed, self._failed, out))

    def choose_returned(self, policy: Policy, set_aside: SetAside, now: float) -> Endpoint | None:
        """Return an endpoint that has returned or is new since all were tried, or None: go on waiting."""
        if not self.may_start(now):
            return None
        # In turn: behind an outage hundreds wait, who would all go to the same one else.
        return policy.pick(self._request, self._failed.union(set_aside.out(now)), now)


class _Union:
    """Membership in any of several sets, without building their union."""

    __slots__ = ("_parts",)

    def __init__(self, *parts: Set[EndpointKey] | list[EndpointKey]) -> None:
        self._parts = [part for part in parts if part]

    def __contains__(self, key: object) -> bool:
        return any(key in part for part in self._parts)


class _AllBut:
    __slots__ = ("_excluding", "_key")

    def __init__(self, key: EndpointKey, excluding: Set[EndpointKey] | _Union) -> None:
        self._key = key
        self._excluding = excluding

    def __contains__(self, key: object) -> bool:
        return key != self._key or key in self._excluding


def _only(policy: Policy, key: EndpointKey, excluding: Set[EndpointKey] | _Union) -> Endpoint | None:
    """Return the endpoint `key` if the policy still has it and it is none of `excluding`."""
    return policy.pick_again(key, _AllBut(key, excluding))
