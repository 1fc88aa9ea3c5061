"""A kubeconfig whose token is in a file of its own, which may be rotated as the kubelet does it."""

from __future__ import annotations

import base64
import json
from pathlib import Path


def write_kubeconfig(path: Path, url: str, authority: bytes | None, token: str, namespace: str | None = None) -> Path:
    """Write one for the API server at `url` whose certificate `authority` has signed. Return `path`."""
    cluster = {"server": url}
    if authority is not None:
        cluster["certificate-authority-data"] = base64.b64encode(authority).decode()
    context = {"cluster": "tests", "user": "tests"}
    if namespace is not None:
        context["namespace"] = namespace
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": cluster}],
        "users": [{"name": "tests", "user": {"tokenFile": str(token_file(path))}}],
        "contexts": [{"name": "tests", "context": context}],
        "current-context": "tests",
    }
    rotate_token(path, token)
    # Any JSON is YAML.
    path.write_text(json.dumps(document))
    return path


def token_file(path: Path) -> Path:
    """Return where the token of the kubeconfig at `path` is."""
    return path.with_suffix(".token")


def rotate_token(path: Path, token: str) -> None:
    """Replace the token of the kubeconfig at `path`, in one step as the kubelet does."""
    new = path.with_suffix(".new")
    new.write_text(token)
    new.rename(token_file(path))
