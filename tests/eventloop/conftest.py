"""Fixtures: each kind of loop, with what must hold after every test on it."""

from __future__ import annotations

import gc
import select
from collections.abc import Iterator

import pytest

from tests.eventloop.conformance import LOOPS, OnLoop, descriptors


def _checked(name: str) -> Iterator[OnLoop]:
    if name == "epoll" and not hasattr(select, "epoll"):
        pytest.skip("epoll is there on Linux only")
    on_loop = OnLoop(name)
    # The first loop of libuv opens descriptors that the process keeps.
    on_loop.new().close()
    before = descriptors()
    yield on_loop
    assert on_loop.errors == [], "the loop's exception handler was told"
    if not descriptors() <= before:
        gc.collect()
        assert descriptors() <= before, "descriptors stayed open"


@pytest.fixture(params=LOOPS)
def on_loop(request: pytest.FixtureRequest) -> Iterator[OnLoop]:
    """Run on each kind of loop; afterwards nothing is open and the exception handler was told of nothing more."""
    yield from _checked(request.param)


@pytest.fixture
def on_epoll() -> Iterator[OnLoop]:
    """Run on our loop alone: for what no other offers."""
    yield from _checked("epoll")
