"""One cluster for the tests of a module, whose last one has the time to end it; the last of a session has not."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.deploy.cluster import Cluster, run, script_of_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The one-node cluster; it ends with the tests unless it was there before them."""
    script = script_of_cluster()
    was_there = "kubelet: running" in run(script, "status", environment=os.environ)
    try:
        yield Cluster(run(script, "up", environment=os.environ, seconds=120).strip())
    finally:
        if not was_there:
            run(script, "down", environment=os.environ, seconds=120)


@pytest.fixture(scope="module")
def deployed(cluster: Cluster) -> Cluster:
    """The same, with deploy/base on it."""
    assert "podlb is up: http://" in cluster.script("deploy")
    return cluster
