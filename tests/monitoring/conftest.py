"""One Prometheus for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.monitoring.scene import Scene, scene


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Three podlb processes that a Prometheus scrapes."""
    with scene(tmp_path_factory.mktemp("prometheus")) as made:
        yield made


@pytest.fixture(scope="module")
def troubled(scraped: Scene) -> Scene:
    """The same, after all that the dashboard shows has happened."""
    scraped.have_a_bad_day()
    return scraped
