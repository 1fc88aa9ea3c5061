"""The files of deploy/, read, and the programs that read them."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SCRIPT = DEPLOY / "kind/kind.sh"
OVERLAYS = ("endpoints", "egress", "kind", "monitoring", "two-namespaces")
OPERATOR_API = "monitoring.coreos.com/"
"""The API of the Prometheus operator, which clusters need not have, and whose schemas are not Kubernetes' own."""

Document = dict[str, Any]


def search_path() -> str:
    """Return PATH with the folder that KUBEBUILDER_ASSETS names in front."""
    return os.pathsep.join(filter(None, [os.environ.get("KUBEBUILDER_ASSETS"), os.environ.get("PATH", "")]))


def program(name: str, hint: str) -> str:
    """Return where a program is, or skip the test."""
    path = shutil.which(name, path=search_path())
    if path is None:
        pytest.skip(f"{name} is neither in KUBEBUILDER_ASSETS nor in PATH: {hint}")
    return path


@functools.cache
def rendered(folder: str) -> tuple[Document, ...]:
    """Return what kustomize makes of a folder of deploy/."""
    kubectl = program("kubectl", "install it, or set KUBEBUILDER_ASSETS (see CONTRIBUTING.md)")
    done = subprocess.run(
        [kubectl, "kustomize", str(DEPLOY / folder)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


@functools.cache
def installed() -> tuple[Document, ...]:
    """Return the documents of install.yaml."""
    return tuple(yaml.safe_load_all((DEPLOY / "install.yaml").read_text()))


def find(documents: tuple[Document, ...], kind: str, name: str) -> Document:
    """Return the one document of that kind and name."""
    (found,) = [d for d in documents if d["kind"] == kind and d["metadata"]["name"] == name]
    return found


def of_kind(documents: tuple[Document, ...], kind: str) -> list[Document]:
    """Return the documents of that kind."""
    return [document for document in documents if document["kind"] == kind]


def container(deployment: Document) -> Document:
    """Return the one container of a Deployment."""
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(only)


def environment(deployment: Document) -> dict[str, str]:
    """Return the variables of a Deployment's container: plain values, and paths of the Downward API."""
    return {
        variable["name"]: variable.get("value") or variable["valueFrom"]["fieldRef"]["fieldPath"]
        for variable in container(deployment)["env"]
    }
