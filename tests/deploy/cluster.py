"""The one-node cluster that PODLB_CLUSTER starts, and kind.sh against it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.files import ROOT, SCRIPT, program, search_path

HINT = "set PODLB_CLUSTER to the script of a one-node cluster (see CONTRIBUTING.md)"


class CommandFailedError(Exception):
    """A command failed. The message is what it said."""


def run(*command: str, environment: Mapping[str, str], seconds: float = 60, text: str | None = None) -> str:
    """Run a command; return its stdout. Raise CommandFailedError with what it said."""
    done = subprocess.run(
        command, env=environment, input=text, capture_output=True, text=True, check=False, timeout=seconds, cwd=ROOT
    )
    if done.returncode:
        raise CommandFailedError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def settings(kubeconfig: str, context: str) -> dict[str, str]:
    """Return the environment for kind.sh on the cluster that PODLB_CLUSTER starts."""
    return {
        **os.environ,
        "PATH": search_path(),
        "KUBECONFIG": kubeconfig,
        "DEPLOY_CONTEXT": context,
        "DEPLOY_LOAD": f"{os.environ['PODLB_CLUSTER']} load",
        "DEPLOY_MANIFESTS": "deploy/base",
    }


class Cluster:
    """A running cluster, with an administrator's rights."""

    def __init__(self, kubeconfig: str) -> None:
        self.kubectl_path = program("kubectl", "set KUBEBUILDER_ASSETS (see CONTRIBUTING.md)")
        environment = {**os.environ, "PATH": search_path(), "KUBECONFIG": kubeconfig}
        context = run(self.kubectl_path, "config", "current-context", environment=environment).strip()
        self.environment = settings(kubeconfig, context)

    def kubectl(self, *words: str, seconds: float = 60, text: str | None = None) -> str:
        return run(self.kubectl_path, *words, environment=self.environment, seconds=seconds, text=text)

    def get(self, *words: str) -> Any:
        return json.loads(self.kubectl("get", *words, "--output", "json"))

    def script(self, *words: str, seconds: float = 300, **changed: str) -> str:
        """Run kind.sh with the settings for this cluster."""
        return run(str(SCRIPT), *words, environment={**self.environment, **changed}, seconds=seconds)

    def pods(self, name: str, namespace: str = "podlb") -> list[Any]:
        """Return the pods of podlb-lb or podlb-backend that are not on their way out."""
        found = self.get("pods", "--namespace", namespace, "--selector", f"app.kubernetes.io/name=podlb-{name}")
        return [pod for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]]

    def python(self, pod: str, code: str, namespace: str = "podlb") -> Any:
        """Run `code` in a pod; return what it prints as JSON."""
        where = ("--namespace", namespace, pod)
        return json.loads(self.kubectl("exec", *where, "--", "/opt/podlb/bin/python", "-c", code))


def script_of_cluster() -> str:
    """Return the cluster's script, or skip the test."""
    script = os.environ.get("PODLB_CLUSTER")
    if not script or not Path(script).exists():
        pytest.skip(f"no cluster: {HINT}")
    return script
