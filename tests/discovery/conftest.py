"""Fixtures for the source of Kubernetes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.discovery.kubernetes_fakes import MakeRig, Rig


@pytest_asyncio.fixture
async def kubernetes(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> AsyncIterator[MakeRig]:
    """Make sources, `kubernetes(backend_port="http")`, each over an API server in the test's hands."""
    caplog.set_level(logging.INFO, "lb")
    made: list[Rig] = []

    def make(**config: object) -> Rig:
        made.append(Rig(monkeypatch, **config))
        return made[-1]

    yield make
    for each in made:
        await each.source.stop()
        assert each.source._loop is None or each.source._is_over.is_set(), "the thread goes on"
