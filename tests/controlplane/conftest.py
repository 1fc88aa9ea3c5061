"""Fixtures: the API server of the tests, the real one, and either of them as `plane`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.controlplane.apiserver import ApiServer
from tests.controlplane.plane import FakePlane, Plane, RealPlane
from tests.controlplane.real import RealServer, why_not

REAL = pytest.param("real", marks=[pytest.mark.slow, pytest.mark.timeout(90)])


@pytest.fixture
def apiserver() -> Iterator[ApiServer]:
    """Run the API server of the tests."""
    with ApiServer() as server:
        yield server


@pytest.fixture(scope="session")
def real_servers() -> Iterator[list[RealServer]]:
    """Hold the real API server, once it is started, until the end."""
    servers: list[RealServer] = []
    yield servers
    for server in servers:
        server.__exit__()


@pytest.fixture
def real_server(real_servers: list[RealServer]) -> RealServer:
    """Start the real API server when the first test asks for it."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    if not real_servers:
        real_servers.append(RealServer().__enter__())
    return real_servers[0]


@pytest.fixture
def real_plane(real_server: RealServer) -> RealPlane:
    """Make a namespace on the real API server."""
    return RealPlane(real_server)


@pytest.fixture
def fake_plane(apiserver: ApiServer) -> FakePlane:
    """Make a namespace on the API server of the tests."""
    return FakePlane(apiserver)


@pytest.fixture(params=["fake", REAL])
def plane(request: pytest.FixtureRequest) -> Plane:
    """Give a namespace on either."""
    made: Plane = request.getfixturevalue(f"{request.param}_plane")
    return made
