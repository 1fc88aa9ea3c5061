"""Fixtures: scripted endpoints, a balancer over them, and on which loops and parsers a test runs.

By default every test that asks for `variant` (or for `balancer`) runs on the variants of `DEFAULT_VARIANTS`; one marked
`any_parser` on those with different loops alone, one marked `one_variant` on the first alone. `--all-loops` runs all of
them on all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from lb.endpoint import Endpoint as EndpointValue
from lb.health import set_aside
from tests.eventloop.splicing import Splices
from tests.integration.endpoint import Endpoint
from tests.integration.harness import ALL_VARIANTS, DEFAULT_VARIANTS, Balancer, Variant
from tests.integration.ports import BlackHole
from tests.integration.tunnels import MakeTunnels, Port, Tunnels

MakeEndpoint = Callable[..., Endpoint]
MakeBlackHole = Callable[..., BlackHole]
MakeBalancer = Callable[..., Balancer]
MakePort = Callable[..., Port]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "any_parser: runs with one parser on each loop unless --all-loops is given")
    config.addinivalue_line("markers", "one_variant: runs on one loop and parser unless --all-loops is given")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "variant" in metafunc.fixturenames:
        if metafunc.definition.get_closest_marker("one_variant"):
            variants = DEFAULT_VARIANTS[:1]
        elif metafunc.definition.get_closest_marker("any_parser"):
            variants = [variant for variant in DEFAULT_VARIANTS if variant.parser == "auto"]
        else:
            variants = DEFAULT_VARIANTS
        chosen: list[Any] = list(variants)
        if metafunc.config.getoption("--all-loops"):
            further = pytest.mark.further_variant
            chosen = [v if v in variants else pytest.param(v, marks=further) for v in ALL_VARIANTS]
        metafunc.parametrize("variant", chosen, ids=str)


@pytest.fixture
def endpoint() -> Iterator[MakeEndpoint]:
    """Make scripted endpoints; they are stopped, and their scripts' failures raised, after the balancer has stopped."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(Endpoint(*arguments, **options))


@pytest.fixture
def black_hole() -> Iterator[MakeBlackHole]:
    """Make ports that swallow connects."""
    if not BlackHole.is_possible:
        pytest.skip("only Linux tells how full the queue of a listening socket is")
    with ExitStack() as stack:

        def make(**options: bool) -> BlackHole:
            hole = BlackHole(**options)
            stack.callback(hole.stop)
            return hole

        yield make


@pytest.fixture
def balancer(variant: Variant, endpoint: MakeEndpoint) -> Iterator[MakeBalancer]:
    """Start balancers: `balancer(a, b, idle_timeout=1)` over endpoints (or their values), with keys of Config."""
    with ExitStack() as stack:

        def start(*endpoints: Endpoint | BlackHole | EndpointValue, **overrides: Any) -> Balancer:
            values = [e if isinstance(e, EndpointValue) else e.value for e in endpoints]
            balancer = Balancer(variant, values, overrides)
            stack.callback(balancer.stop)
            balancer.start()
            return balancer

        yield start


@pytest.fixture
def port(balancer: MakeBalancer) -> Iterator[MakePort]:
    """Make ports whose connections the test accepts itself; they are closed before the balancer is stopped."""
    with ExitStack() as stack:

        def make(**options: Any) -> Port:
            port = Port(**options)
            stack.callback(port.stop)
            return port

        yield make


@pytest.fixture(params=["upgrade", "tcp"])
def tunnels(request: pytest.FixtureRequest, port: MakePort, balancer: MakeBalancer) -> Iterator[MakeTunnels]:
    """Start a balancer to open tunnels through, of one kind and of the other: `tunnels(idle_timeout=1)`."""
    ports = []

    def start(*, receive_buffer: int | None = None, **overrides: Any) -> Tunnels:
        there = port(receive_buffer=receive_buffer)
        ports.append(there)
        mode = "tcp" if request.param == "tcp" else "http"
        return Tunnels(request.param, balancer(there.value, mode=mode, **overrides), there)

    yield start
    # Each direction ends by itself: with the clients alone, tunnels would go on.
    for there in ports:
        there.stop()


@pytest.fixture
def quick_set_aside(monkeypatch: pytest.MonkeyPatch) -> float:
    """Make the first set-aside short, and return its seconds."""
    monkeypatch.setattr(set_aside, "FIRST_SECONDS", 0.2)
    return 0.2


@pytest.fixture
def splices(monkeypatch: pytest.MonkeyPatch) -> Splices:
    """Counts what goes through splice(2)."""
    return Splices(monkeypatch)
