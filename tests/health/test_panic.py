"""What is used when no endpoint is ready."""

from __future__ import annotations

from itertools import product

import pytest

from lb.endpoint import Endpoint, EndpointKey, Snapshot, make_endpoint
from lb.health.panic import panicking

A, B, C = (make_endpoint(f"10.0.0.{number}", 80, name=name) for number, name in enumerate("abc", 1))
NONE: frozenset[EndpointKey] = frozenset()


def was_ready(endpoint: Endpoint) -> Endpoint:
    return endpoint._replace(ready=False, was_ready=True)


def never_ready(endpoint: Endpoint) -> Endpoint:
    return endpoint._replace(ready=False)


def used(snapshot: Snapshot | None) -> str:
    return "-" if snapshot is None else "".join(endpoint.name for endpoint in snapshot if endpoint.ready)


def test_those_that_were_ready() -> None:
    snapshot = (was_ready(A), never_ready(B), was_ready(C))
    found = panicking(snapshot, NONE)
    assert used(found) == "ac"
    assert found is not None
    assert [endpoint.key for endpoint in found] == [A.key, B.key, C.key], "the others are still there"


@pytest.mark.parametrize("ready", [A, C])
def test_one_that_is_ready_is_enough_for_calm(ready: Endpoint) -> None:
    snapshot = tuple(endpoint if endpoint is ready else was_ready(endpoint) for endpoint in (A, B, C))
    assert panicking(snapshot, NONE) is None


def test_also_if_that_one_has_failed() -> None:
    # It is ready: set-aside looks after it, and tries it again.
    assert panicking((A, was_ready(B)), {A.key}) is None


def test_not_those_that_failed() -> None:
    assert used(panicking((was_ready(A), was_ready(B)), {A.key})) == "b"


def test_without_any_that_may_answer_there_is_no_panic() -> None:
    assert panicking((), NONE) is None
    assert panicking((never_ready(A), never_ready(B)), NONE) is None
    assert panicking((was_ready(A), never_ready(B)), {A.key}) is None
    assert panicking((was_ready(A), was_ready(B)), {A.key, B.key}) is None


def test_those_in_use_are_known_by_their_identity() -> None:
    # Another pod at the address of one that failed.
    other = was_ready(A)._replace(key=("other", *A.key[1:]))
    assert used(panicking((was_ready(A), other), {A.key})) == "a"
    found = panicking((was_ready(A), other), {A.key})
    assert found is not None
    assert [endpoint.key[0] for endpoint in found if endpoint.ready] == ["other"]


def test_for_every_state_of_three() -> None:
    states = (lambda e: e, was_ready, never_ready)
    for one, two, three, mask in product(states, states, states, range(8)):
        snapshot = (one(A), two(B), three(C))
        failed = {e.key for bit, e in enumerate(snapshot) if mask >> bit & 1}
        found = panicking(snapshot, failed)
        hopeful = {e.key for e in snapshot if e.was_ready} - failed
        if any(e.ready for e in snapshot) or not hopeful:
            assert found is None
        else:
            assert found is not None
            assert {e.key for e in found if e.ready} == hopeful
            assert [e._replace(ready=False) for e in found] == list(snapshot), "nothing else is changed"
