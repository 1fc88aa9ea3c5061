"""kubectl, as a function, and a list that follows what happens on the API server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RETRY = 0.2
"""Seconds between two attempts to list when the API server is away."""

Object = dict[str, Any]


class DrillError(Exception):
    """A drill can't be run, or what it did had not the effect that it needs. One line that says what to do."""


def kubectl_program() -> str:
    """Where kubectl is: beside the programs for tests, or on the PATH."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    found = shutil.which("kubectl", path=assets) if assets else None
    found = found or shutil.which("kubectl")
    if found is None:
        raise DrillError("kubectl is missing: put it on the PATH, or set KUBEBUILDER_ASSETS to the folder that has it")
    return found


class Kubectl:
    """kubectl against the cluster that KUBECONFIG names, or that of a context in it."""

    def __init__(self, program: str, context: str | None = None) -> None:
        self._base = [program, *([f"--context={context}"] if context else [])]

    def run(self, *arguments: str, stdin: str | None = None, seconds: float = 60.0) -> str:
        """Return what it prints. DrillError, with its last line, when it fails or takes longer."""
        command = [*self._base, *arguments]
        try:
            done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise DrillError(f"kubectl {' '.join(arguments)}: no end after {seconds:g} s") from None
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
            raise DrillError(f"kubectl {' '.join(arguments)}: {lines[-1]}")
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "-o", "json"))

    def open(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it, with its output to be read."""
        return subprocess.Popen(
            [*self._base, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )

    def server(self, *options: str) -> str:
        """The address of the API server."""
        path = "jsonpath={.clusters[0].cluster.server}"
        return self.run("config", "view", *options, "--minify", "-o", path).strip()

    def answers(self, seconds: float) -> bool:
        """Does the API server answer within that time?"""
        try:
            self.run("get", "--raw", "/readyz", f"--request-timeout={seconds:g}s", seconds=seconds + 5)
        except DrillError:
            return False
        return True


class Following:
    """The objects of one kind, kept as the API server tells them, in a thread of its own.

    `changed(at, old, new)` is called in that thread with the monotonic instant at which the news came.
    """

    def __init__(
        self, kubectl: Kubectl, path: str, selector: str, changed: Callable[[float, Object | None, Object | None], None]
    ) -> None:
        self.objects: dict[str, Object] = {}
        self._kubectl = kubectl
        self._path = f"{path}?labelSelector={selector.replace('=', '%3D')}"
        self._changed = changed
        self._stopped = threading.Event()
        self._listed = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, name=f"following {Path(path).name}", daemon=True)

    def start(self) -> None:
        """Begin, and return when all objects are known."""
        self._thread.start()
        if not self._listed.wait(30):
            raise DrillError(f"no list of {self._path} within 30 s: see whether kubectl reaches the cluster")

    def stop(self) -> None:
        self._stopped.set()
        if (process := self._process) is not None:
            process.terminate()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._watch(self._list())
            except DrillError:
                self._stopped.wait(RETRY)

    def _list(self) -> str:
        answer = json.loads(self._kubectl.run("get", "--raw", self._path, "--request-timeout=5s"))
        at = time.monotonic()
        found = {item["metadata"]["name"]: item for item in answer["items"] or []}
        for name in self.objects.keys() - found.keys():
            self._set(at, name, None)
        for name, item in found.items():
            self._set(at, name, item)
        self._listed.set()
        version: str = answer["metadata"]["resourceVersion"]
        return version

    def _watch(self, version: str) -> None:
        """Follow until the line is cut or the version is too old."""
        path = f"{self._path}&watch=1&resourceVersion={version}"
        with self._kubectl.open("get", "--raw", path) as process:
            self._process = process
            try:
                if self._stopped.is_set():
                    return
                assert process.stdout is not None
                for line in process.stdout:
                    self.feed(time.monotonic(), line)
            except ValueError:  # cut in the middle of a line, or an error instead of an event
                return
            finally:
                process.terminate()

    def feed(self, at: float, line: str) -> None:
        """Take one line of a watch. ValueError when it is not an event."""
        event = json.loads(line)
        if event.get("type") not in ("ADDED", "MODIFIED", "DELETED"):
            raise ValueError(line)
        item = event["object"]
        self._set(at, item["metadata"]["name"], None if event["type"] == "DELETED" else item)

    def _set(self, at: float, name: str, new: Object | None) -> None:
        old = self.objects.get(name)
        if new is None:
            self.objects.pop(name, None)
        else:
            self.objects[name] = new
        if old != new:
            self._changed(at, old, new)
