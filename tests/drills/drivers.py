"""How faults reach a cluster: a driver runs commands on a node and stops parts of the control plane.

There are two, chosen by what is there: the cluster script that PODLB_CLUSTER names, and `docker exec` for the nodes of
kind. Without one, the drills that need a fault from below skip and say why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Protocol

from tests.drills.kubectl import DrillError, Kubectl

API_SERVER = "kube-apiserver"
KUBELET = "kubelet"

PAUSE = 0.02
"""Seconds between two looks at something that is known here."""
PROGRAM_PAUSE = 0.5
"""The same where a look means to start a program, which takes time from the load."""

NO_DRIVER = (
    "no way to make faults: set PODLB_CLUSTER to the script of the cluster that KUBECONFIG names, "
    "or use a kind cluster with docker on the PATH"
)


class Driver(Protocol):
    """Makes faults. A part is `API_SERVER` or `KUBELET`."""

    def on_node(self, node: str, *command: str) -> str:
        """Run a command as root where the node's processes are seen; DrillError when it fails."""

    def pause(self, part: str) -> None:
        """Freeze it: it still accepts and never answers."""

    def resume(self, part: str) -> None:
        """Let it go on."""

    def kill(self, part: str) -> None:
        """Kill it; it stays away."""

    def start(self, part: str) -> None:
        """Start it again."""


def execute(*command: str, seconds: float = 60.0) -> str:
    """Run a command and return what it prints. DrillError, with what it says, when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DrillError(f"{' '.join(command)}: {error}") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise DrillError(f"{' '.join(command)}: {lines[-1]}")
    return done.stdout


class ScriptDriver:
    """The cluster script, whose one node shares this machine's processes."""

    def __init__(self, script: str) -> None:
        self._script = script

    def on_node(self, node: str, *command: str) -> str:
        return execute(*command)

    def pause(self, part: str) -> None:
        execute(self._script, "pause", part)

    def resume(self, part: str) -> None:
        execute(self._script, "resume", part)

    def kill(self, part: str) -> None:
        execute(self._script, "kill", part)

    def start(self, part: str) -> None:
        # It stays in the background with our output still open: nothing is to be read from it.
        with open(os.devnull, "r+") as nothing:
            done = subprocess.run(
                [self._script, "start", part], stdin=nothing, stdout=nothing, stderr=nothing, timeout=60
            )
        if done.returncode:
            raise DrillError(f"{self._script} start {part}: status {done.returncode}")


class KindDriver:
    """`docker exec` on the nodes of a kind cluster; `control` is the node of the control plane.

    There the API server is a static pod: the kubelet starts it again unless its manifest is away.
    """

    _MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
    _AWAY = "/etc/kubernetes/kube-apiserver.yaml.away"

    def __init__(self, control: str, nodes: tuple[str, ...]) -> None:
        self._control = control
        self._nodes = nodes

    def on_node(self, node: str, *command: str) -> str:
        return execute("docker", "exec", node, *command)

    def _signal(self, signal: str, part: str) -> None:
        self.on_node(self._control, "pkill", f"-{signal}", "-x", part)

    def pause(self, part: str) -> None:
        self._signal("STOP", part)

    def resume(self, part: str) -> None:
        self._signal("CONT", part)

    def kill(self, part: str) -> None:
        if part == KUBELET:
            for node in self._nodes:
                self.on_node(node, "systemctl", "kill", "--signal=KILL", "kubelet")
                self.on_node(node, "systemctl", "stop", "kubelet")
        else:
            self.on_node(self._control, "mv", self._MANIFEST, self._AWAY)
            self._signal("KILL", part)

    def start(self, part: str) -> None:
        if part == KUBELET:
            for node in self._nodes:
                self.on_node(node, "systemctl", "start", "kubelet")
        else:
            self.on_node(self._control, "mv", self._AWAY, self._MANIFEST)


def find_driver(kubectl: Kubectl) -> Driver | None:
    """The driver for the cluster that kubectl talks to, if there is one.

    The script is used only for its own cluster: a fault must not hit another one than the drill looks at.
    """
    script = os.environ.get("PODLB_CLUSTER")
    if script:
        config = execute(script, "kubeconfig").strip()
        if os.path.exists(config) and kubectl.server() == kubectl.server(f"--kubeconfig={config}"):
            return ScriptDriver(script)
    context = kubectl.run("config", "view", "--minify", "-o", "jsonpath={.current-context}").strip()
    if context.startswith("kind-") and shutil.which("docker"):
        nodes = kubectl.json("get", "nodes")["items"]
        names = tuple(node["metadata"]["name"] for node in nodes)
        control = [
            n["metadata"]["name"] for n in nodes if "node-role.kubernetes.io/control-plane" in n["metadata"]["labels"]
        ]
        if len(control) == 1:
            return KindDriver(control[0], names)
    return None


def wait_until(condition: Callable[[], object], what: str, seconds: float, *, pause: float = PAUSE) -> float:
    """Return the monotonic instant at which `condition` holds. DrillError when that is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise DrillError(f"{what}: not within {seconds:g} s")
        time.sleep(pause)
    return time.monotonic()
