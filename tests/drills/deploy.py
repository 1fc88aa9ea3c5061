"""A cluster for the drills, where there is none yet: the cluster script's, with podlb deployed to it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.drills.cluster import BASE, ROOT
from tests.drills.drivers import execute
from tests.drills.kubectl import DrillError, kubectl_program

KIND = ROOT / "deploy/kind/kind.sh"
UP = 120.0
DEPLOY = 420.0
"""Seconds for two images to be built and loaded, and for the pods to come up."""


@contextmanager
def cluster_of_our_own() -> Iterator[None]:
    """Start the cluster of PODLB_CLUSTER, deploy podlb there, name it in KUBECONFIG; stop it in the end.

    One that runs already is used, and left running.
    """
    script = os.environ.get("PODLB_CLUSTER")
    if not script:
        raise DrillError("--up needs a cluster script: set PODLB_CLUSTER, or leave --up out and set KUBECONFIG")
    config = execute(script, "kubeconfig").strip()
    was_up = os.path.exists(config)
    try:
        _execute("start the cluster", UP, script, "up")
        os.environ["KUBECONFIG"] = config
        kubectl = kubectl_program()
        context = execute(kubectl, "config", "current-context").strip()
        os.environ.update(DEPLOY_CONTEXT=context, DEPLOY_LOAD=f"{script} load", DEPLOY_MANIFESTS=str(BASE))
        os.environ["PATH"] = os.pathsep.join([os.path.dirname(kubectl), os.environ.get("PATH", os.defpath)])
        _execute("deploy podlb", DEPLOY, str(KIND), "deploy")
        yield
    finally:
        if not was_up:
            _execute("stop the cluster", UP, script, "down")


def _execute(what: str, seconds: float, *command: str) -> None:
    """Run a command whose output people want to see.

    What it leaves in the background would keep a pipe open for ever: its output goes where ours does.
    """
    try:
        done = subprocess.run(command, timeout=seconds, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DrillError(f"can't {what}: {error}") from None
    if done.returncode:
        raise DrillError(f"can't {what}: {' '.join(command)} ended with status {done.returncode}, see above")
